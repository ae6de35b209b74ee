// A Martlet server in memory for the Web SDK's tests and for looking at the page: the client protocol's server side,
// with dense seqs, dedup, seq notices, sync, history, state and presence. Pushes are sent once: what a hook swallows
// has to be found by the client. Faults are switched on by hooks.

import './globals.mjs';
import {
  FrameType as T, Method, Outcome, Presence, Schemas, Service, decode, decodeFrame, encode, encodeFrame, fromUtf8,
} from '../../Sources/Clients/Web/sdk/wire.js';
import { peerOf, toHex } from '../../Sources/Clients/Web/sdk/ids.js';

const failure = (code, reason, retryable, retryAfterMs = 0) => ({
  code, reason, message: reason, retryable, retryAfterMs,
});

export class FakeServer {
  /** @param now the server's clock, Unix milliseconds */
  constructor(now) {
    this.now = now;
    this.users = new Map();
    this.conversations = new Map();
    this.index = new Map();
    this.sessions = new Set();
    this.version = 0;
    this.sessionCount = 0;
    /** Frames received, for assertions. */
    this.log = [];
    /** Hooks: each may return true to swallow what it is shown. */
    this.hooks = { push: null, response: null, request: null, sendResult: null };
    this.welcome = { heartbeatMs: 30_000, pushAckEvery: 32, pushAckMs: 200, maxFrameBytes: 128 * 1024 };
  }

  addUser(id, nickname = '') {
    this.users.set(id, { nickname });
    this.index.set(id, new Map());
  }

  /** A connection. `send(bytes)` and `close()` reach the client; returns what the client's side calls. */
  connect(send, close) {
    const session = new Session(this, send, close);
    return { receive: (bytes) => session.receive(bytes), closed: () => session.leave() };
  }

  kill() {
    for (const session of [...this.sessions]) {
      session.leave();
      session.close();
    }
  }

  online(user) {
    return [...this.sessions].filter((session) => session.user === user);
  }

  /** Appends a message; returns its row, an old one for a resend. */
  store(sender, device, conversation, item) {
    const place = this.conversations.get(conversation) ?? { rows: [], dedup: new Map() };
    this.conversations.set(conversation, place);
    const key = `${sender}/${device}/${toHex(item.clientMsgId)}/${toHex(item.content)}`;
    if (place.dedup.has(key)) return { row: place.dedup.get(key), fresh: false };
    const control = item.kind === 3;
    const before = place.rows.at(-1);
    const row = {
      conversation, seq: place.rows.length + 1, n: (before?.n ?? 0) + (control ? 0 : 1),
      timeMs: Math.max(before?.timeMs ?? 0, this.now()), sender, control,
      message: encode(Schemas.ChatMessage, {
        sender, device, clientMsgId: item.clientMsgId, kind: item.kind, content: item.content, sentMs: this.now(),
        control, targetSeq: item.targetSeq,
      }),
    };
    place.rows.push(row);
    place.dedup.set(key, row);
    for (const user of [sender, peerOf(conversation, sender)]) {
      const entry = this.entry(user, conversation);
      entry.version = ++this.version;
      if (user === sender) entry.readSeq = row.seq;
    }
    return { row, fresh: true };
  }

  entry(user, conversation) {
    const mine = this.index.get(user);
    if (!mine.has(conversation)) mine.set(conversation, { readSeq: 0, deliveredSeq: 0, version: 0, joinedSeq: 1 });
    return mine.get(conversation);
  }

  deliver(row, sender, sessionOfSender, clientMsgId) {
    for (const user of [sender, peerOf(row.conversation, sender)]) {
      for (const session of this.online(user)) {
        if (session === sessionOfSender) {
          const { conversation, seq, n, timeMs } = row;
          const place = { conversation, clientMsgId, seq, n, timeMs };
          session.pushFrame(T.SEQ_NOTICE, Schemas.SeqNotice, { stored: [place] });
        } else if (!this.hooks.push?.(row, session)) session.pushFrame(T.PUSH, Schemas.PushedMessage, row);
      }
    }
  }

  /** A message from somebody who is not connected. */
  post(sender, conversation, text, id = crypto.getRandomValues(new Uint8Array(16))) {
    const item = { clientMsgId: id, kind: 1, content: new TextEncoder().encode(text), targetSeq: 0 };
    const { row } = this.store(sender, 'robot', conversation, item);
    this.deliver(row, sender, null, id);
    return row;
  }

  event(user, name, schema, body) {
    for (const session of this.online(user)) {
      session.frame({ type: T.EVENT, body: encode(Schemas.Event, { svid: 4, name, body: encode(schema, body) }) });
    }
  }

  presenceChanged(user) {
    const online = this.online(user).length > 0;
    for (const session of this.sessions) {
      if (!session.watched.has(user)) continue;
      const body = encode(Schemas.PresenceChange, { userId: user, online });
      session.frame({ type: T.EVENT, body: encode(Schemas.Event, { svid: 5, name: 'presence', body }) });
    }
  }

  texts(conversation) {
    return (this.conversations.get(conversation)?.rows ?? [])
      .map((row) => fromUtf8(decode(Schemas.ChatMessage, row.message).content));
  }
}

class Session {
  constructor(server, send, close) {
    this.server = server;
    this.send = send;
    this.close = close;
    this.user = null;
    this.pushId = 0;
    this.acked = 0;
    this.watched = new Set();
    this.turns = new Map();
  }

  frame(frame) {
    this.send(encodeFrame(frame));
  }

  pushFrame(type, schema, body) {
    this.pushId += 1;
    this.frame({ type, id: this.pushId, body: encode(schema, body) });
  }

  leave() {
    if (!this.server.sessions.delete(this)) return;
    this.server.presenceChanged(this.user);
  }

  receive(bytes) {
    const frame = decodeFrame(bytes);
    this.server.log.push({ ...frame, user: this.user });
    switch (frame.type) {
      case T.HELLO: return this.welcome();
      case T.AUTHENTICATE: return this.authenticate(decode(Schemas.Authenticate, frame.body));
      case T.PING: return this.frame({ type: T.PONG });
      case T.PUSH_ACK: this.acked = Math.max(this.acked, frame.id); return undefined;
      case T.BYE: this.leave(); return this.close();
      case T.REQUEST: case T.ORDERED_REQUEST:
        return this.server.hooks.request?.(frame, this) ? undefined : this.request(frame);
      default: return undefined;
    }
  }

  welcome() {
    const welcome = { version: 1, serverTimeMs: this.server.now(), ...this.server.welcome };
    this.frame({ type: T.WELCOME, body: encode(Schemas.Welcome, welcome) });
  }

  authenticate({ token, deviceId, platform }) {
    if (!this.server.users.has(token)) {
      this.frame({ type: T.ERROR, body: encode(Schemas.Failure, failure(202, 'token_bad_signature', false)) });
      return this.close();
    }
    for (const other of this.server.online(token)) {
      if (other.platform !== platform) continue;
      other.frame({ type: T.KICK, body: encode(Schemas.Kick, failure(208, 'displaced_by_newer_login', false)) });
      other.leave();
      other.close();
    }
    Object.assign(this, { user: token, device: deviceId, platform });
    this.server.sessions.add(this);
    const body = encode(Schemas.Authenticated, {
      appId: 'demo', userId: token, sessionId: `s${++this.server.sessionCount}`, serverTimeMs: this.server.now(),
    });
    this.frame({ type: T.AUTHENTICATED, body });
    this.server.presenceChanged(token);
    return undefined;
  }

  answer(frame, schema, body) {
    if (this.server.hooks.response?.(frame, this)) return;
    this.frame({ type: T.RESPONSE, id: frame.id, body: encode(schema, body) });
  }

  fail(frame, value) {
    this.frame({ type: T.FAILURE, id: frame.id, body: encode(Schemas.Failure, value) });
  }

  request(frame) {
    const methods = {
      [`${Service.IM}/${Method.SEND}`]: () => this.sendMessages(frame),
      [`${Service.IM}/${Method.TYPING}`]: () => this.typing(frame),
      [`${Service.USER}/${Method.SYNC}`]: () => this.sync(frame),
      [`${Service.USER}/${Method.SET_STATE}`]: () => this.setState(frame),
      [`${Service.USER}/${Method.PROFILES}`]: () => this.profiles(frame),
      [`${Service.ONLINE}/${Method.SUBSCRIBE}`]: () => this.presence(frame, true),
      [`${Service.ONLINE}/${Method.LOOK_UP}`]: () => this.presence(frame, false),
      [`${Service.HISTORY}/${Method.HISTORY}`]: () => this.history(frame),
    };
    const method = methods[`${frame.svid}/${frame.method}`];
    if (method) method();
    else this.fail(frame, failure(302, 'no_such_method', false));
  }

  sendMessages(frame) {
    const floor = this.turns.get(frame.key) ?? 0;
    if (frame.turn < floor) return this.fail(frame, failure(405, 'resend_in_order', true));
    const { conversation, items } = decode(Schemas.SendRequest, frame.body);
    const stored = [];
    let broken = false;
    const results = items.map((item) => {
      const forced = broken ? { outcome: Outcome.REFUSED, failure: failure(405, 'resend_in_order', true) }
        : this.server.hooks.sendResult?.(item, this);
      if (forced) {
        if (forced.outcome === Outcome.UNKNOWN || forced.failure.retryable) broken = true;
        if (!forced.stores) return forced;
      }
      stored.push([this.server.store(this.user, this.device, conversation, item), item]);
      return forced ?? { outcome: Outcome.ACCEPTED, sentMs: this.server.now() };
    });
    if (broken) this.turns.set(frame.key, frame.turn + 1);
    this.answer(frame, Schemas.SendResponse, { results });
    for (const [{ row, fresh }, item] of stored) {
      if (fresh) this.server.deliver(row, this.user, this, item.clientMsgId);
      else {
        const { seq, n, timeMs } = row;
        const place = { conversation, clientMsgId: item.clientMsgId, seq, n, timeMs };
        this.pushFrame(T.SEQ_NOTICE, Schemas.SeqNotice, { stored: [place] });
      }
    }
    return undefined;
  }

  typing(frame) {
    const { conversation } = decode(Schemas.TypingRequest, frame.body);
    this.answer(frame, Schemas.TypingRequest, {});
    const body = { conversation, userId: this.user };
    this.server.event(peerOf(conversation, this.user), 'typing', Schemas.TypingEvent, body);
  }

  sync(frame) {
    const { token, limit } = decode(Schemas.SyncRequest, frame.body);
    const since = token.length === 0 ? 0 : Number(fromUtf8(token));
    const changed = [...this.server.index.get(this.user)].filter(([, entry]) => entry.version > since)
      .sort((a, b) => a[1].version - b[1].version);
    const page = changed.slice(0, limit || 200);
    const next = page.length > 0 ? page.at(-1)[1].version : since;
    this.answer(frame, Schemas.SyncResponse, {
      token: new TextEncoder().encode(String(next)), more: page.length < changed.length,
      entries: page.map(([id, entry]) => this.syncEntry(id, entry)),
    });
  }

  syncEntry(id, entry) {
    const rows = this.server.conversations.get(id)?.rows ?? [];
    const head = rows.at(-1);
    const peer = peerOf(id, this.user);
    const theirs = this.server.entry(peer, id);
    return {
      conversation: id, version: entry.version, joinedSeq: 1, readSeq: entry.readSeq, headSeq: head?.seq ?? 0,
      headN: head?.n ?? 0, headTimeMs: head?.timeMs ?? 0, last: head, peer, peerReadSeq: theirs.readSeq,
      unread: rows.filter((row) => row.seq > entry.readSeq && row.sender !== this.user && !row.control).length,
      deliveredSeq: entry.deliveredSeq, peerDeliveredSeq: theirs.deliveredSeq,
    };
  }

  setState(frame) {
    const { changes } = decode(Schemas.SetStateRequest, frame.body);
    for (const change of changes) {
      const entry = this.server.entry(this.user, change.conversation);
      entry.readSeq = Math.max(entry.readSeq, change.readSeq);
      entry.deliveredSeq = Math.max(entry.deliveredSeq, change.deliveredSeq);
      entry.version = ++this.server.version;
      const peer = peerOf(change.conversation, this.user);
      const hint = { ...change, readSeq: entry.readSeq, deliveredSeq: entry.deliveredSeq, userId: this.user };
      this.server.event(peer, 'state', Schemas.StateHint, hint);
    }
    this.answer(frame, Schemas.SetStateResponse, { results: changes.map(() => ({ ok: true })) });
  }

  profiles(frame) {
    const { userIds } = decode(Schemas.ProfilesRequest, frame.body);
    const profiles = userIds.map((userId) => {
      const user = this.server.users.get(userId);
      return { userId, exists: Boolean(user), nickname: user?.nickname ?? '' };
    });
    this.answer(frame, Schemas.ProfilesResponse, { profiles });
  }

  presence(frame, subscribe) {
    const { userIds } = decode(Schemas.PresenceRequest, frame.body);
    if (subscribe) this.watched = new Set(userIds);
    const state = (id) => (this.server.online(id).length > 0 ? Presence.ONLINE : Presence.OFFLINE);
    const users = userIds.map((userId) => ({ userId, state: state(userId) }));
    this.answer(frame, Schemas.PresenceResponse, { users });
  }

  history(frame) {
    const { queries } = decode(Schemas.HistoryRequest, frame.body);
    const pages = queries.map((query) => {
      const rows = this.server.conversations.get(query.conversation)?.rows;
      if (!rows) return { conversation: query.conversation, failure: failure(401, 'not_a_member', false) };
      let from = query.fromSeq;
      let to = from > 0 ? from + query.limit : rows.length + 1;
      if (query.beforeSeq > 0) to = query.beforeSeq;
      if (from === 0) from = to - query.limit;
      return {
        conversation: query.conversation, headSeq: rows.length, firstVisibleSeq: 1,
        messages: rows.filter((row) => row.seq >= from && row.seq < to),
      };
    });
    this.answer(frame, Schemas.HistoryResponse, { pages });
  }
}
