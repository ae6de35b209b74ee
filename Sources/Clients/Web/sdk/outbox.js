// What this device wants to send, until it has its place in its conversation. Pure: told the time, answers with frames.
// Order: one lane per conversation, frames in order, and after anything that has to be sent again everything behind it
// is sent again with the next turn. See Protocols/README.md, "Ordered requests".

import { Method, Outcome, Schemas, Service, encode } from './wire.js';
import { fromHex } from './ids.js';

export const MOST_PENDING = 1000;
const MOST_ITEMS = 64;
/** Bytes of contents in one frame: a frame of the largest contents stays well below the limit. */
const MOST_BYTES = 64 * 1024;
/** Frames of one conversation on their way. */
const MOST_FRAMES = 8;
const TURNS = 0xffff;
const RETRY_MS = 300;
const RETRY_MOST_MS = 5000;

class Lane {
  constructor(conversation) {
    this.conversation = conversation;
    this.items = [];
    this.turn = 0;
    /** Frames on their way: request id to the items in it. */
    this.frames = new Map();
    this.broken = false;
    this.retryAt = 0;
    this.attempts = 0;
  }
}

export class Outbox {
  /** @param random a number in [0, 1), for jitter */
  constructor(random) {
    this.random = random;
    this.lanes = new Map();
    this.items = new Map();
  }

  get size() {
    return this.items.size;
  }

  has(id) {
    return this.items.has(id);
  }

  /** What waits in a conversation, in order. */
  pending(conversation) {
    return this.lanes.get(conversation)?.items ?? [];
  }

  lane(conversation) {
    let lane = this.lanes.get(conversation);
    if (!lane) this.lanes.set(conversation, (lane = new Lane(conversation)));
    return lane;
  }

  /** Adds an item {id, conversation, kind, content, targetSeq, tried, failure}. */
  add(item) {
    item.state = item.failure ? 'failed' : 'queued';
    this.items.set(item.id, item);
    this.lane(item.conversation).items.push(item);
  }

  remove(id) {
    const item = this.items.get(id);
    if (!item) return null;
    this.items.delete(id);
    const lane = this.lane(item.conversation);
    lane.items.splice(lane.items.indexOf(item), 1);
    return item;
  }

  /** A new session: nothing is on its way any more, turns start at 0. */
  reset() {
    for (const lane of this.lanes.values()) {
      lane.turn = 0;
      lane.frames.clear();
      lane.broken = false;
      lane.retryAt = 0;
      lane.attempts = 0;
      for (const item of lane.items) if (item.state === 'sent') item.state = 'queued';
    }
  }

  /** Gives items that were never sent an id that fits the server's clock. Returns [old id, item] pairs. */
  renumber(unfit, nextId) {
    const changed = [];
    for (const lane of this.lanes.values()) {
      for (const item of lane.items) {
        if (item.tried || item.state !== 'queued' || !unfit(item.id)) continue;
        const old = item.id;
        item.id = nextId();
        this.items.delete(old);
        this.items.set(item.id, item);
        changed.push([old, item]);
      }
    }
    return changed;
  }

  /** The next frame that may be sent, or null. The caller sends it and reports its request id with `sent`. */
  take(now) {
    for (const lane of this.lanes.values()) {
      if (lane.broken || lane.retryAt > now || lane.frames.size >= MOST_FRAMES) continue;
      const items = this.batch(lane);
      if (items.length === 0) continue;
      const body = encode(Schemas.SendRequest, {
        conversation: lane.conversation,
        items: items.map((item) => ({
          clientMsgId: fromHex(item.id), kind: item.kind, content: item.content, targetSeq: item.targetSeq,
        })),
      });
      return { lane, items, svid: Service.IM, method: Method.SEND, key: lane.conversation, turn: lane.turn, body };
    }
    return null;
  }

  batch(lane) {
    const items = [];
    let bytes = 0;
    for (const item of lane.items) {
      if (item.state !== 'queued') continue;
      bytes += item.content.length;
      if (items.length > 0 && (items.length >= MOST_ITEMS || bytes > MOST_BYTES)) break;
      items.push(item);
    }
    return items;
  }

  sent(frame, requestId) {
    frame.lane.frames.set(requestId, frame.items);
    for (const item of frame.items) item.state = 'sent';
  }

  /** The answer to a frame. Returns {accepted, failed}: items whose state changed for good. */
  answered(lane, requestId, response, now) {
    const items = lane.frames.get(requestId);
    if (!items) return { accepted: [], failed: [] };
    lane.frames.delete(requestId);
    const changed = { accepted: [], failed: [] };
    let again = response.results.length !== items.length;
    let wait = 0;
    items.forEach((item, index) => {
      const result = response.results[index];
      if (!result) return;
      if (result.outcome === Outcome.ACCEPTED) {
        item.state = 'accepted';
        item.sentMs = result.sentMs;
        changed.accepted.push(item);
      } else if (result.outcome === Outcome.REFUSED && !result.failure?.retryable) {
        this.fail(item, result.failure);
        changed.failed.push(item);
      } else {
        again = true;
        wait = Math.max(wait, result.failure?.retryAfterMs ?? 0);
      }
    });
    if (!again) lane.attempts = 0;
    this.settle(lane, again, wait, now);
    return changed;
  }

  /** A frame was refused as a whole, or nobody knows: {code, reason, retryable ...}. */
  refused(lane, requestId, failure, now) {
    const items = lane.frames.get(requestId);
    if (!items) return { accepted: [], failed: [] };
    lane.frames.delete(requestId);
    if (!failure.retryable) for (const item of items) this.fail(item, failure);
    this.settle(lane, failure.retryable, failure.retryAfterMs, now);
    return { accepted: [], failed: failure.retryable ? [] : items };
  }

  fail(item, failure) {
    item.state = 'failed';
    item.failure = { code: failure?.code ?? 0, reason: failure?.reason ?? 'refused', message: failure?.message ?? '' };
  }

  settle(lane, again, waitMs, now) {
    if (again) {
      lane.broken = true;
      const ceiling = Math.min(RETRY_MOST_MS, RETRY_MS * 2 ** Math.min(lane.attempts, 10));
      lane.retryAt = Math.max(lane.retryAt, now + Math.max(waitMs, ceiling / 2 + (this.random() * ceiling) / 2));
    }
    // Only when every frame of this turn has been answered is it known what has to be sent again.
    if (!lane.broken || lane.frames.size > 0) return;
    lane.broken = false;
    lane.attempts += 1;
    lane.turn += 1;
    for (const item of lane.items) if (item.state === 'sent') item.state = 'queued';
  }

  /** A lane has used up its turns: the session has to be opened anew. */
  get exhausted() {
    for (const lane of this.lanes.values()) if (lane.turn > TURNS) return true;
    return false;
  }

  /** When something may be sent that has to wait now; Infinity when nothing waits for its time. */
  deadline(now) {
    let soonest = Infinity;
    for (const lane of this.lanes.values()) {
      if (lane.broken || lane.retryAt <= now) continue;
      if (lane.items.some((item) => item.state === 'queued')) soonest = Math.min(soonest, lane.retryAt);
    }
    return soonest;
  }
}
