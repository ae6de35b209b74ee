// Telling the server what was read and what arrived: latest wins, gathered, and tried until it is confirmed. Pure.

import { Method, Schemas, Service, decode, encode } from './wire.js';

const READ_WAIT_MS = 300;
const DELIVERED_WAIT_MS = 1000;
const RETRY_MS = 1000;
const MOST_CHANGES = 100;

export class Marks {
  /** @param conversations the map of them all */
  constructor(link, conversations) {
    this.link = link;
    this.conversations = conversations;
    this.forgetSession();
  }

  forgetSession() {
    this.at = Infinity;
    this.asked = false;
  }

  /** Everything in view was read. True when that is news. */
  read(conversation, now) {
    if (conversation.end <= conversation.readSeq) return false;
    conversation.readSeq = conversation.end;
    this.at = Math.min(this.at, now + READ_WAIT_MS);
    return true;
  }

  /** Everything up to the end of the dense run is on this device. */
  delivered(conversation, now) {
    if (conversation.end <= conversation.deliveredSeq) return;
    conversation.deliveredSeq = conversation.end;
    this.at = Math.min(this.at, now + DELIVERED_WAIT_MS);
  }

  /** After a new session: what was not confirmed is told again. */
  resume(now) {
    this.at = Math.min(this.at, now + DELIVERED_WAIT_MS);
  }

  tick(now) {
    if (this.at > now) return;
    this.at = this.link.hasRoom ? Infinity : now + RETRY_MS;
    // What changes while a request is under way goes with the next one.
    if (this.link.hasRoom && !this.asked) this.tell(now);
  }

  tell(now) {
    const changes = [...this.conversations.values()]
      .filter((c) => c.head > 0 && (c.readSeq > c.toldRead || c.deliveredSeq > c.toldDelivered))
      .slice(0, MOST_CHANGES)
      .map((c) => ({ conversation: c.id, readSeq: c.readSeq, deliveredSeq: c.deliveredSeq }));
    if (changes.length === 0) return;
    this.asked = true;
    const call = {
      svid: Service.USER, method: Method.SET_STATE, body: encode(Schemas.SetStateRequest, { changes }),
    };
    this.link.request(call, (bytes, at) => {
      this.asked = false;
      const well = this.confirm(changes, decode(Schemas.SetStateResponse, bytes).results);
      this.at = Math.min(this.at, well ? at : at + RETRY_MS);
    }, (failure, at) => {
      this.asked = false;
      if (this.link.ready) this.at = Math.min(this.at, at + RETRY_MS);
    }, now);
  }

  /** True when nothing of it has to be tried again. */
  confirm(changes, results) {
    let well = results.length === changes.length;
    changes.forEach((change, index) => {
      const conversation = this.conversations.get(change.conversation);
      const result = results[index];
      if (!result?.ok && result?.failure?.retryable !== false) {
        well = false;
        return;
      }
      conversation.toldRead = Math.max(conversation.toldRead, change.readSeq);
      conversation.toldDelivered = Math.max(conversation.toldDelivered, change.deliveredSeq);
    });
    return well;
  }
}
