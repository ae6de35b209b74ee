// One conversation as this client knows it: a dense run of messages, what came too early, what is read.
// Pure: no clock, no I/O. Rules: Protocols/README.md, "What a client must do".

import { ContentKind, Schemas, decode } from './wire.js';
import { toHex } from './ids.js';

/** Messages kept behind a hole until it is repaired; beyond it they are fetched again. */
export const MOST_AHEAD = 1000;
/** A jump further than this is not filled: the view starts anew at the newest page. */
export const MOST_FILLED = 400;

/** A pushed message, decoded for display. `lost`: its content could not be stored, only its place is left. */
export function readRow(pushed) {
  let message = null;
  try {
    if (pushed.message.length > 0) message = decode(Schemas.ChatMessage, pushed.message);
  } catch {
    message = null;
  }
  // History shows a recalled message as a recall of itself: its place, and nothing of its content.
  const recalled = message?.kind === ContentKind.RECALL && message.targetSeq === pushed.seq;
  // A control message of no kind stands where something could not be stored.
  const lost = message === null || (message.control && message.kind === ContentKind.UNSPECIFIED);
  return {
    seq: pushed.seq, n: pushed.n, timeMs: pushed.timeMs, lost, recalled,
    sender: message?.sender ?? '', device: message?.device ?? '', id: message ? toHex(message.clientMsgId) : '',
    kind: message?.kind ?? ContentKind.UNSPECIFIED, content: message?.content ?? new Uint8Array(0),
    control: (message?.control ?? true) && !recalled && !lost, targetSeq: message?.targetSeq ?? 0,
  };
}

export class Conversation {
  constructor(id, me, peer) {
    this.id = id;
    this.me = me;
    this.peer = peer;
    /** Dense and ascending: rows[i].seq === rows[0].seq + i. */
    this.rows = [];
    /** Last seq of the dense run, also when no row of it is held; -1: nothing is known yet. */
    this.end = -1;
    /** Highest seq that is known to exist. */
    this.head = 0;
    this.headTimeMs = 0;
    this.last = null;
    this.ahead = new Map();
    this.recalled = new Set();
    this.firstVisible = 1;
    this.readSeq = 0;
    this.deliveredSeq = 0;
    /** What the server has confirmed of the two. */
    this.toldRead = 0;
    this.toldDelivered = 0;
    this.peerRead = 0;
    this.peerDelivered = 0;
    /** The server's exact count, and as of which head and read seq. */
    this.counted = { head: 0, read: 0, unread: 0 };
    this.pinned = false;
    this.muted = false;
  }

  /** First seq of the dense run. */
  get first() {
    return this.rows.length > 0 ? this.rows[0].seq : this.end + 1;
  }

  get hasHole() {
    return this.end >= 0 && this.head > this.end;
  }

  get reachedStart() {
    return this.end >= 0 && this.first <= this.firstVisible;
  }

  /** Starts the dense run behind a seq, forgetting what was held. */
  restart(end) {
    this.rows = [];
    this.end = end;
    for (const seq of [...this.ahead.keys()]) if (seq <= end) this.ahead.delete(seq);
    return this.drain();
  }

  /**
   * Takes a message from a push, a page or a sync. Returns the rows that became visible, in order; none for a
   * duplicate or for one that has to wait for its elders.
   */
  receive(row) {
    this.head = Math.max(this.head, row.seq);
    if (this.end < 0) this.end = row.seq - 1;
    if (row.seq <= this.end) return [];
    if (row.seq > this.end + 1) {
      if (this.ahead.size < MOST_AHEAD) this.ahead.set(row.seq, row);
      return [];
    }
    return [...this.append(row), ...this.drain()];
  }

  drain() {
    const shown = [];
    for (let row = this.ahead.get(this.end + 1); row; row = this.ahead.get(this.end + 1)) {
      this.ahead.delete(row.seq);
      shown.push(...this.append(row));
    }
    return shown;
  }

  append(row) {
    this.rows.push(row);
    this.end = row.seq;
    this.note(row);
    // Whoever sends has read what was there.
    if (row.sender === this.me) this.readSeq = Math.max(this.readSeq, row.seq);
    return [row];
  }

  /** Puts an older page in front; only the part that joins on is taken. Returns how many rows were added. */
  prepend(page) {
    let wanted = this.first - 1;
    const fitting = [];
    for (const row of [...page].sort((a, b) => b.seq - a.seq)) {
      if (row.seq > wanted) continue;
      if (row.seq < wanted) break;
      fitting.unshift(row);
      wanted -= 1;
    }
    this.rows.unshift(...fitting);
    for (const row of fitting) this.note(row);
    return fitting.length;
  }

  note(row) {
    if (row.kind === ContentKind.RECALL && row.targetSeq > 0 && row.targetSeq !== row.seq) {
      this.recalled.add(row.targetSeq);
      const target = this.rowAt(row.targetSeq);
      if (target) target.recalled = true;
    }
    if (this.recalled.has(row.seq)) row.recalled = true;
    if (!row.control && (!this.last || row.seq >= this.last.seq)) {
      this.last = row;
      this.headTimeMs = Math.max(this.headTimeMs, row.timeMs);
    }
  }

  rowAt(seq) {
    return this.rows.length > 0 ? this.rows[seq - this.rows[0].seq] : undefined;
  }

  /** Forgets the oldest rows of a conversation that nobody looks at. */
  trim(most) {
    if (this.rows.length > most) this.rows.splice(0, this.rows.length - most);
  }

  /** Takes the entry of a sync. Returns the rows that became visible. */
  sync(entry) {
    const knewNothing = this.end < 0;
    this.firstVisible = Math.max(1, entry.joinedSeq, entry.clearedSeq + 1);
    this.pinned = entry.pinned;
    this.muted = entry.muted;
    if (entry.peer) this.peer = entry.peer;
    this.head = Math.max(this.head, entry.headSeq);
    this.headTimeMs = Math.max(this.headTimeMs, entry.headTimeMs);
    this.peerRead = Math.max(this.peerRead, entry.peerReadSeq);
    this.peerDelivered = Math.max(this.peerDelivered, entry.peerDeliveredSeq);
    this.toldRead = Math.max(this.toldRead, entry.readSeq);
    this.toldDelivered = Math.max(this.toldDelivered, entry.deliveredSeq);
    this.readSeq = Math.max(this.readSeq, entry.readSeq);
    this.deliveredSeq = Math.max(this.deliveredSeq, entry.deliveredSeq);
    if (entry.headSeq >= this.counted.head) {
      this.counted = { head: entry.headSeq, read: entry.readSeq, unread: entry.unread };
    }
    if (this.first < this.firstVisible) this.rows = this.rows.filter((row) => row.seq >= this.firstVisible);
    const last = entry.last ? readRow(entry.last) : null;
    // Without rows on show nothing has to be dense: the page that opening loads starts at the head.
    if (knewNothing || (this.rows.length === 0 && entry.headSeq > this.end)) {
      this.end = Math.max(this.end, entry.headSeq);
    }
    if (last && (!this.last || last.seq > this.last.seq)) this.last = last;
    return last && last.seq > this.end ? this.receive(last) : this.drain();
  }

  /** Takes the news that somebody's state moved: ours, from another device, or the other side's. */
  hint(hint) {
    if (hint.userId === this.me) {
      this.readSeq = Math.max(this.readSeq, hint.readSeq);
      this.toldRead = Math.max(this.toldRead, hint.readSeq);
      this.deliveredSeq = Math.max(this.deliveredSeq, hint.deliveredSeq);
      this.toldDelivered = Math.max(this.toldDelivered, hint.deliveredSeq);
    } else {
      this.peerRead = Math.max(this.peerRead, hint.readSeq);
      this.peerDelivered = Math.max(this.peerDelivered, hint.deliveredSeq, hint.readSeq);
    }
  }

  /** Countable messages of others that were not read; null when it cannot be known without asking the server. */
  get unread() {
    const beyond = (from) => this.rows.reduce((sum, row) => sum + (row.seq > from && this.counts(row) ? 1 : 0), 0);
    const read = Math.max(this.readSeq, this.firstVisible - 1);
    if (read >= this.end) return 0;
    if (this.first <= read + 1) return beyond(read);
    if (read <= this.counted.read) return this.counted.unread + beyond(this.counted.head);
    if (read >= this.counted.head) return beyond(read);
    return null;
  }

  counts(row) {
    return !row.control && !row.recalled && !row.lost && row.sender !== this.me;
  }

  /** How far one of our own messages got. */
  markOf(row) {
    if (row.seq <= this.peerRead) return 'read';
    return row.seq <= this.peerDelivered ? 'delivered' : 'accepted';
  }
}
