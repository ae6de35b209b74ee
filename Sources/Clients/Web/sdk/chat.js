// What a chat client knows and wants: conversations, sync, holes, read state, presence, and the outbox, over one link.
// Pure: every method takes the time; what has to be done comes out of `take()`. The numbered rules of
// Protocols/README.md ("What a client must do") are followed here and named in the comments.

import { ContentKind, Method, Schemas, Service, decode, encode, utf8 } from './wire.js';
import { IdMaker, idTime, pairId, peerOf, toHex } from './ids.js';
import { Conversation, MOST_FILLED, readRow } from './conversation.js';
import { Link } from './link.js';
import { Marks } from './marks.js';
import { MOST_PENDING, Outbox } from './outbox.js';
import { People } from './people.js';

const PAGE = 50;
const MOST_PAGE = 200;
const MOST_QUERIES = 50;
const SYNC_EVERY_MS = 10 * 60_000;
const RETRY_MS = 1000;
const GAP_WAIT_MS = 300;
const GAP_JITTER_MS = 200;
/** Rows kept of a conversation that is not open. */
const MOST_KEPT = 500;
/** An id made with a clock that was further off than this is made anew before its first use. */
const CLOCK_OFF_MS = 60_000;
export const MOST_CONTENT_BYTES = 32 * 1024;

export class Chat {
  /**
   * @param options {url, token, userId, deviceId, platform, client, random, fill, offset}: `random` gives [0, 1),
   *   `fill` fills bytes at random, `offset` is the last known server time minus local time
   */
  constructor(options) {
    this.me = options.userId;
    this.options = options;
    this.actions = [];
    this.link = new Link(options, this, (action) => this.actions.push(action));
    this.link.offset = options.offset ?? 0;
    this.outbox = new Outbox(options.random);
    this.ids = new IdMaker(options.fill);
    this.conversations = new Map();
    this.marks = new Marks(this.link, this.conversations);
    this.people = new People(this.me, this.link, (id) => this.change(id));
    this.openId = null;
    this.watching = false;
    this.syncToken = new Uint8Array(0);
    this.synced = false;
    this.failure = null;
    this.forgetSession();
  }

  forgetSession() {
    this.syncing = false;
    this.syncAgain = false;
    this.syncAt = Infinity;
    this.gapsAt = Infinity;
    this.gapsAsked = new Set();
    this.pageAsked = new Set();
    this.pageAt = Infinity;
    this.marks.forgetSession();
  }

  /** The actions since the last call, in order. */
  take() {
    const actions = this.actions;
    this.actions = [];
    return actions;
  }

  change(conversation) {
    this.actions.push({ do: 'changed', conversation });
  }

  serverNow(now) {
    return now + this.link.offset;
  }

  // ---- the connection's news ----

  received(bytes, now) {
    this.link.received(bytes, now);
    // An answer makes room for what waited.
    this.flushOutbox(now);
  }

  status(phase) {
    this.actions.push({ do: 'status', phase });
  }

  ready(session, now) {
    this.actions.push({ do: 'offset', offset: this.link.offset });
    this.outbox.reset();
    const unfit = (id) => Math.abs(idTime(id) - this.serverNow(now)) > CLOCK_OFF_MS;
    for (const [old, item] of this.outbox.renumber(unfit, () => this.ids.next(this.serverNow(now)))) {
      this.actions.push({ do: 'forget', id: old });
      this.save(item);
      this.change(item.conversation);
    }
    this.sync(now);
    // The sync may not name a conversation whose hole was seen over an earlier connection.
    if ([...this.conversations.values()].some((c) => c.hasHole)) this.gapsAt = now + GAP_WAIT_MS;
    this.flushOutbox(now);
  }

  lost() {
    this.forgetSession();
    this.people.forgetSession();
    this.change(null);
  }

  ended(failure) {
    this.failure = failure;
    this.actions.push({ do: 'ended', failure });
  }

  // ---- sync (rule: on connect, on SYNC_NEEDED, in the foreground, every ten minutes) ----

  syncNeeded(now) {
    this.sync(now);
  }

  sync(now) {
    if (!this.link.ready) return;
    if (this.syncing) {
      this.syncAgain = true;
      return;
    }
    this.syncing = true;
    this.askSync(now);
  }

  /** The next page, or again the one that failed. */
  askSync(now) {
    this.syncAt = Infinity;
    const body = encode(Schemas.SyncRequest, { token: this.syncToken, limit: MOST_PAGE });
    const call = { svid: Service.USER, method: Method.SYNC, body };
    this.link.request(call, (bytes, at) => this.syncPage(decode(Schemas.SyncResponse, bytes), at), (failure, at) => {
      // A token that is refused for good is another deployment's.
      if (!failure.retryable) this.syncToken = new Uint8Array(0);
      // The sync goes on: a reason that comes meanwhile may concern its first pages, so it asks for one more.
      if (this.link.ready) this.syncAt = at + Math.max(RETRY_MS, failure.retryAfterMs) * (1 + this.options.random());
    }, now);
  }

  syncPage(page, now) {
    this.syncToken = page.token;
    for (const entry of page.entries) this.syncEntry(entry, now);
    if (page.more) {
      this.askSync(now);
      return;
    }
    this.syncing = false;
    if (this.syncAgain) {
      this.syncAgain = false;
      this.sync(now);
      return;
    }
    this.synced = true;
    this.syncAt = now + SYNC_EVERY_MS;
    this.marks.resume(now);
    this.people.watch(this.peers(), now);
    this.fillOpen(now);
    this.change(null);
  }

  syncEntry(entry, now) {
    const conversation = this.conversation(entry.conversation, entry.peer);
    this.shown(conversation, conversation.sync(entry), now);
    this.checkHole(conversation, now);
    // Messages that came while we were away are delivered now, whether or not they are looked at.
    if (conversation.last && conversation.last.sender !== this.me) this.marks.delivered(conversation, now);
    this.people.want(conversation.peer, now);
    this.change(conversation.id);
  }

  conversation(id, peer) {
    let conversation = this.conversations.get(id);
    if (!conversation) {
      conversation = new Conversation(id, this.me, peer || peerOf(id, this.me) || '');
      this.conversations.set(id, conversation);
    }
    return conversation;
  }

  // ---- messages ----

  push(pushed, now) {
    this.arrived(pushed.conversation, readRow(pushed), now);
  }

  seqNotice(notice, now) {
    for (const place of notice.stored) {
      const conversation = this.conversation(place.conversation);
      const item = this.outbox.items.get(toHex(place.clientMsgId));
      if (item) this.arrived(place.conversation, this.ownRow(item, place), now);
      else {
        // Shown already, or sent before a reload: the place is known, the message comes with the gap's repair.
        conversation.head = Math.max(conversation.head, place.seq);
        this.checkHole(conversation, now);
      }
    }
  }

  ownRow(item, place) {
    return {
      seq: place.seq, n: place.n, timeMs: place.timeMs, lost: false, recalled: false, sender: this.me,
      device: this.options.deviceId, id: item.id, kind: item.kind, content: item.content,
      control: item.kind === ContentKind.RECALL, targetSeq: item.targetSeq,
    };
  }

  arrived(id, row, now) {
    const isNew = !this.conversations.has(id);
    const conversation = this.conversation(id);
    this.shown(conversation, conversation.receive(row), now);
    this.checkHole(conversation, now);
    if (isNew) {
      // A conversation that the last sync did not have: its entry says what was before this message.
      this.sync(now);
      this.people.want(conversation.peer, now);
    }
    this.change(id);
  }

  /** Rows became visible: what of ours waited for its place has it, and the others are told what we have. */
  shown(conversation, rows, now) {
    for (const row of rows) {
      this.settle(row);
      if (row.sender !== this.me) {
        this.people.stoppedTyping(conversation.id);
        this.marks.delivered(conversation, now);
      }
      // A recall of something that only the server counted: ask for its count again.
      const counted = row.kind === ContentKind.RECALL && row.targetSeq > conversation.readSeq;
      if (counted && !conversation.rowAt(row.targetSeq)) this.sync(now);
    }
    if (rows.length === 0) return;
    if (conversation.id !== this.openId) conversation.trim(MOST_KEPT);
    this.noteRead(now);
    this.actions.push({ do: 'arrived', conversation: conversation.id, rows });
  }

  settle(row) {
    if (row.sender === this.me && row.id && this.outbox.remove(row.id)) this.actions.push({ do: 'forget', id: row.id });
  }

  // ---- holes (rule: wait a moment, then ask for what is missing) ----

  checkHole(conversation, now) {
    if (!conversation.hasHole) return;
    if (conversation.head - conversation.end > MOST_FILLED) {
      this.shown(conversation, conversation.restart(conversation.head), now);
      if (conversation.id === this.openId) this.loadOlder(now);
      return;
    }
    this.gapsAt = Math.min(this.gapsAt, now + GAP_WAIT_MS + this.options.random() * GAP_JITTER_MS);
  }

  repairGaps(now) {
    this.gapsAt = this.link.hasRoom ? Infinity : now + RETRY_MS;
    if (!this.link.hasRoom) return;
    const holes = [...this.conversations.values()].filter((c) => c.hasHole && !this.gapsAsked.has(c.id));
    const asked = holes.slice(0, MOST_QUERIES);
    if (asked.length === 0) return;
    if (holes.length > asked.length) this.gapsAt = now + GAP_WAIT_MS;
    for (const conversation of asked) this.gapsAsked.add(conversation.id);
    const queries = asked.map((c) => {
      const limit = Math.min(MOST_PAGE, c.head - c.end);
      return { conversation: c.id, fromSeq: c.end + 1, limit, atLeast: c.end + limit };
    });
    const again = (at) => {
      for (const conversation of asked) {
        this.gapsAsked.delete(conversation.id);
        if (this.link.ready && conversation.hasHole) this.gapsAt = Math.min(this.gapsAt, at + RETRY_MS);
      }
    };
    this.history(queries, (pages, at) => {
      let progress = false;
      for (const page of pages) progress = this.gapPage(page, at) || progress;
      again(at);
      if (progress && this.gapsAt !== Infinity) this.gapsAt = at;
    }, (failure, at) => again(at), now);
  }

  gapPage(page, now) {
    const conversation = this.conversations.get(page.conversation);
    if (!conversation || page.failure) return false;
    const before = conversation.end;
    for (const pushed of page.messages) this.shown(conversation, conversation.receive(readRow(pushed)), now);
    // Seqs below the first visible one were hidden from us meanwhile and will never come.
    if (page.firstVisibleSeq > conversation.end + 1) {
      this.shown(conversation, conversation.restart(page.firstVisibleSeq - 1), now);
    }
    this.change(conversation.id);
    return conversation.end > before;
  }

  history(queries, answered, failed, now) {
    const call = {
      svid: Service.HISTORY, method: Method.HISTORY, body: encode(Schemas.HistoryRequest, { queries }),
    };
    this.link.request(call, (bytes, at) => answered(decode(Schemas.HistoryResponse, bytes).pages, at), failed, now);
  }

  // ---- looking at a conversation ----

  /** Opens a conversation, or none with null. `watching`: the user has it before their eyes. */
  open(id, watching, now) {
    if (id !== this.openId) this.conversations.get(this.openId)?.trim(MOST_KEPT);
    this.openId = id;
    this.watching = watching;
    if (id !== null) this.conversation(id);
    this.fillOpen(now);
    this.noteRead(now);
    this.change(id);
  }

  watch(watching, now) {
    this.watching = watching;
    this.noteRead(now);
  }

  /** The conversation with a user; it exists for others once something was sent. */
  startWith(userId, now) {
    const id = pairId(this.me, userId);
    this.conversation(id, userId);
    this.people.want(userId, now);
    this.people.watch(this.peers(), now);
    return id;
  }

  fillOpen(now) {
    const conversation = this.openId === null ? null : this.conversations.get(this.openId);
    if (conversation && conversation.rows.length < PAGE && !conversation.reachedStart) this.loadOlder(now);
  }

  isLoading(id) {
    return this.pageAsked.has(id);
  }

  /** The page before what is held of the open conversation. */
  loadOlder(now) {
    const conversation = this.conversations.get(this.openId);
    if (!conversation || conversation.reachedStart || this.pageAsked.has(conversation.id)) return;
    if (!this.link.hasRoom || !this.synced) {
      this.pageAt = now + RETRY_MS;
      return;
    }
    this.pageAsked.add(conversation.id);
    const known = conversation.end >= 0;
    const query = { conversation: conversation.id, beforeSeq: known ? conversation.first : 0, limit: PAGE };
    this.history([query], (pages, at) => {
      this.pageAsked.delete(conversation.id);
      if (pages[0]) this.olderPage(conversation, pages[0], at);
    }, (failure, at) => {
      this.pageAsked.delete(conversation.id);
      if (this.link.ready) this.pageAt = at + RETRY_MS;
      this.change(conversation.id);
    }, now);
    this.change(conversation.id);
  }

  olderPage(conversation, page, now) {
    const rows = page.messages.map(readRow);
    if (page.failure) {
      // Nobody has written yet, so there is nothing to see: not an error for a conversation that was just begun.
      if (!page.failure.retryable && conversation.end < 0) conversation.end = 0;
      else this.pageAt = now + RETRY_MS;
    } else {
      if (conversation.end < 0) conversation.end = rows.length > 0 ? rows[rows.length - 1].seq : page.headSeq;
      conversation.head = Math.max(conversation.head, page.headSeq);
      conversation.firstVisible = Math.max(1, page.firstVisibleSeq, conversation.firstVisible);
      const added = conversation.prepend(rows);
      for (const row of rows) this.settle(row);
      if (added === 0 && !conversation.reachedStart) this.pageAt = now + RETRY_MS;
      this.checkHole(conversation, now);
      this.noteRead(now);
      // Pages may be shorter than asked for; an open view needs enough to be scrolled.
      if (added > 0) this.fillOpen(now);
    }
    this.change(conversation.id);
  }

  noteRead(now) {
    const conversation = this.openId !== null && this.watching ? this.conversations.get(this.openId) : null;
    if (conversation && this.marks.read(conversation, now)) this.change(conversation.id);
  }

  // ---- sending ----

  /** Takes a text to send. Returns its id; throws RangeError with a word when it cannot be taken. */
  send(conversation, content, now, kind = ContentKind.TEXT, targetSeq = 0) {
    const bytes = typeof content === 'string' ? utf8(content) : content;
    if (bytes.length > MOST_CONTENT_BYTES) throw new RangeError('message_too_large');
    if (this.outbox.size >= MOST_PENDING) throw new RangeError('too_many_pending');
    const id = this.ids.next(this.serverNow(now));
    const item = { id, conversation, kind, content: bytes, targetSeq, tried: false, failure: null };
    this.conversation(conversation);
    this.outbox.add(item);
    this.save(item);
    this.change(conversation);
    this.flushOutbox(now);
    return id;
  }

  /** Puts back what was kept over a reload, in the order of the ids. */
  restore(items) {
    for (const item of [...items].sort((a, b) => (a.id < b.id ? -1 : 1))) {
      if (this.outbox.has(item.id) || this.outbox.size >= MOST_PENDING) continue;
      this.conversation(item.conversation);
      this.outbox.add({ ...item });
    }
  }

  /** Sends a refused message again, as a new one. */
  retry(id, now) {
    const item = this.discard(id);
    if (item) this.send(item.conversation, item.content, now, item.kind, item.targetSeq);
  }

  discard(id) {
    if (this.outbox.items.get(id)?.state !== 'failed') return null;
    const item = this.outbox.remove(id);
    this.actions.push({ do: 'forget', id });
    this.change(item.conversation);
    return item;
  }

  save(item) {
    const { id, conversation, kind, content, targetSeq, tried, failure } = item;
    this.actions.push({ do: 'save', item: { id, conversation, kind, content, targetSeq, tried, failure } });
  }

  flushOutbox(now) {
    if (!this.link.ready) return;
    if (this.outbox.exhausted) {
      this.link.drop(now);
      return;
    }
    while (this.link.hasRoom) {
      const frame = this.outbox.take(now);
      if (!frame) return;
      for (const item of frame.items) {
        if (item.tried) continue;
        // Kept as tried before it goes: from here on only the same id is safe.
        item.tried = true;
        this.save(item);
      }
      const settled = (changed, at) => {
        for (const item of changed.accepted) this.actions.push({ do: 'forget', id: item.id });
        for (const item of changed.failed) this.save(item);
        this.change(frame.lane.conversation);
        this.flushOutbox(at);
      };
      const id = this.link.request(frame,
        (bytes, at) => settled(this.outbox.answered(frame.lane, id, decode(Schemas.SendResponse, bytes), at), at),
        (failure, at) => settled(this.outbox.refused(frame.lane, id, failure, at), at), now);
      this.outbox.sent(frame, id);
    }
  }

  // ---- events: best effort, so nothing may depend on them alone ----

  event(event, now) {
    if (event.name === 'state') this.stateHint(decode(Schemas.StateHint, event.body), now);
    else this.people.event(event, (id) => this.conversations.has(id), now);
  }

  stateHint(hint, now) {
    const conversation = this.conversations.get(hint.conversation);
    if (!conversation || hint.entryChanged) {
      this.sync(now);
      if (!conversation) return;
    }
    conversation.hint(hint);
    if (conversation.unread === null) this.sync(now);
    this.change(conversation.id);
  }

  /** The other sides of the conversations, the newest first. */
  peers() {
    const newest = [...this.conversations.values()].sort((a, b) => b.headTimeMs - a.headTimeMs);
    return newest.map((c) => c.peer).filter(Boolean);
  }

  // ---- time ----

  foreground(now) {
    this.link.hurry(now);
    this.sync(now);
  }

  /** When `tick` wants to be called. */
  deadline(now) {
    const mine = Math.min(this.syncAt, this.gapsAt, this.pageAt, this.marks.at, this.outbox.deadline(now));
    return Math.min(this.link.deadline(), this.people.deadline(), this.link.ready ? mine : Infinity);
  }

  tick(now) {
    this.link.tick(now);
    this.people.tick(now);
    if (!this.link.ready) return;
    if (this.syncAt <= now) {
      if (this.syncing) this.askSync(now);
      else this.sync(now);
    }
    if (this.gapsAt <= now) this.repairGaps(now);
    this.marks.tick(now);
    if (this.pageAt <= now) {
      this.pageAt = Infinity;
      this.fillOpen(now);
    }
    this.flushOutbox(now);
  }
}
