// The client protocol, version 1, as bytes: frames and the protobuf bodies that a chat client needs.
// Protocols/README.md describes every byte. No dependencies; runs in browsers and in node.

/** First byte of a frame. */
export const FrameType = Object.freeze({
  HELLO: 1, WELCOME: 2, AUTHENTICATE: 3, AUTHENTICATED: 4, PING: 5, PONG: 6, REQUEST: 7, ORDERED_REQUEST: 8,
  RESPONSE: 9, FAILURE: 10, PUSH: 11, PUSH_ACK: 12, SEQ_NOTICE: 13, KICK: 14, REDIRECT: 15, SYNC_NEEDED: 16,
  ERROR: 17, EVENT: 18, BYE: 19,
});

/** Services and their methods. */
export const Service = Object.freeze({ IM: 1, USER: 4, ONLINE: 5, HISTORY: 6 });
export const Method = Object.freeze({
  SEND: 1, TYPING: 2, SYNC: 1, SET_STATE: 2, PROFILES: 3, LOOK_UP: 1, SUBSCRIBE: 2, HISTORY: 1,
});
export const Outcome = Object.freeze({ UNKNOWN: 0, ACCEPTED: 1, REFUSED: 2 });
export const ContentKind = Object.freeze({ UNSPECIFIED: 0, TEXT: 1, CUSTOM: 2, RECALL: 3, NOTICE: 4 });
export const Presence = Object.freeze({ UNKNOWN: 0, ONLINE: 1, OFFLINE: 2 });

/** Bytes that are not a frame or not the message they should be. */
export class WireError extends Error {}

// ---- protobuf (https://protobuf.dev/programming-guides/encoding/), the part of it that proto3 messages use ----

const text = new TextEncoder();
const untext = new TextDecoder('utf-8');
const strictText = new TextDecoder('utf-8', { fatal: true });

/** Bytes of a text, as it travels. */
export const utf8 = (string) => text.encode(string);
/** Text of bytes; what is not UTF-8 becomes U+FFFD, because somebody else wrote it. */
export const fromUtf8 = (bytes) => untext.decode(bytes);

/** A growing buffer. */
class Writer {
  constructor() {
    this.bytes = new Uint8Array(64);
    this.length = 0;
  }
  room(count) {
    if (this.length + count <= this.bytes.length) return;
    const larger = new Uint8Array(Math.max(this.bytes.length * 2, this.length + count));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }
  byte(value) {
    this.room(1);
    this.bytes[this.length++] = value;
  }
  // Numbers above 2^32 are cut by division: bit operators in JavaScript see 32 bits only.
  varint(value) {
    let rest = value;
    while (rest >= 0x80) {
      this.byte((rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.byte(rest);
  }
  append(bytes) {
    this.room(bytes.length);
    this.bytes.set(bytes, this.length);
    this.length += bytes.length;
  }
  big(value, size) {
    for (let shift = 8 * (size - 1); shift >= 0; shift -= 8) this.byte((value >>> shift) & 0xff);
  }
  done() {
    return this.bytes.slice(0, this.length);
  }
}

/** Reads from the front; throws at the end instead of inventing bytes. */
class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }
  get more() {
    return this.at < this.bytes.length;
  }
  byte() {
    if (!this.more) throw new WireError('the bytes end too early');
    return this.bytes[this.at++];
  }
  varint() {
    let value = 0;
    let unit = 1;
    for (let count = 0; count < 10; count++) {
      const byte = this.byte();
      value += (byte & 0x7f) * unit;
      unit *= 0x80;
      if (byte < 0x80) return value;
    }
    throw new WireError('a number of more than ten bytes');
  }
  take(count) {
    if (count > this.bytes.length - this.at) throw new WireError('the bytes end too early');
    const part = this.bytes.subarray(this.at, this.at + count);
    this.at += count;
    return part;
  }
  big(size) {
    let value = 0;
    for (let index = 0; index < size; index++) value = value * 256 + this.byte();
    return value;
  }
  skip(wireType) {
    if (wireType === 0) this.varint();
    else if (wireType === 1) this.take(8);
    else if (wireType === 2) this.take(this.varint());
    else if (wireType === 5) this.take(4);
    else throw new WireError(`wire type ${wireType}`);
  }
}

// A schema maps a field's number to [name, kind, how]. Kinds: uint, bool, string, bytes, or another schema.
// how: 'many' for repeated, 'maybe' for fields that say whether they are there.
const schema = (fields) => new Map(Object.entries(fields).map(([number, field]) => [Number(number), field]));

const Failure = schema({
  1: ['code', 'uint'], 2: ['reason', 'string'], 3: ['message', 'string'], 4: ['retryable', 'bool'],
  5: ['retryAfterMs', 'uint'],
});
const PushedMessage = schema({
  1: ['conversation', 'string'], 2: ['seq', 'uint'], 3: ['n', 'uint'], 4: ['timeMs', 'uint'], 5: ['message', 'bytes'],
});
const SendItem = schema({
  1: ['clientMsgId', 'bytes'], 2: ['kind', 'uint'], 3: ['content', 'bytes'], 4: ['targetSeq', 'uint'],
});
const SendResult = schema({ 1: ['outcome', 'uint'], 2: ['failure', Failure, 'maybe'], 3: ['sentMs', 'uint'] });
const Stored = schema({
  1: ['conversation', 'string'], 2: ['clientMsgId', 'bytes'], 3: ['seq', 'uint'], 4: ['n', 'uint'],
  5: ['timeMs', 'uint'],
});
const ConversationEntry = schema({
  1: ['conversation', 'string'], 2: ['version', 'uint'], 3: ['joinedSeq', 'uint'], 4: ['leftSeq', 'uint'],
  5: ['clearedSeq', 'uint'], 6: ['readSeq', 'uint'], 7: ['pinned', 'bool'], 8: ['muted', 'bool'],
  9: ['draft', 'string'], 10: ['headSeq', 'uint'], 11: ['headN', 'uint'], 12: ['headTimeMs', 'uint'],
  13: ['unread', 'uint'], 14: ['last', PushedMessage, 'maybe'], 15: ['peer', 'string'], 16: ['peerReadSeq', 'uint'],
  17: ['deliveredSeq', 'uint'], 18: ['peerDeliveredSeq', 'uint'],
});
const StateChange = schema({
  1: ['conversation', 'string'], 2: ['readSeq', 'uint'], 3: ['clearedSeq', 'uint'], 4: ['pinned', 'bool', 'maybe'],
  5: ['muted', 'bool', 'maybe'], 6: ['draft', 'string', 'maybe'], 7: ['deliveredSeq', 'uint'],
});
const StateResult = schema({ 1: ['ok', 'bool'], 2: ['failure', Failure, 'maybe'], 3: ['version', 'uint'] });
const Profile = schema({
  1: ['userId', 'string'], 2: ['nickname', 'string'], 3: ['avatarUrl', 'string'], 4: ['exists', 'bool'],
  5: ['custom', 'bytes'],
});
const UserPresence = schema({ 1: ['userId', 'string'], 2: ['state', 'uint'], 3: ['platforms', 'string', 'many'] });
const HistoryQuery = schema({
  1: ['conversation', 'string'], 2: ['fromSeq', 'uint'], 3: ['beforeSeq', 'uint'], 4: ['limit', 'uint'],
  5: ['atLeast', 'uint'],
});
const HistoryPage = schema({
  1: ['conversation', 'string'], 2: ['messages', PushedMessage, 'many'], 3: ['headSeq', 'uint'],
  4: ['firstVisibleSeq', 'uint'], 5: ['failure', Failure, 'maybe'],
});

/** The messages of martlet/v1/client.proto, by name. */
export const Schemas = Object.freeze({
  Hello: schema({ 1: ['version', 'uint'], 2: ['capabilities', 'string', 'many'], 3: ['client', 'string'] }),
  Welcome: schema({
    1: ['version', 'uint'], 2: ['capabilities', 'string', 'many'], 3: ['serverTimeMs', 'uint'],
    4: ['heartbeatMs', 'uint'], 5: ['maxFrameBytes', 'uint'], 6: ['pushAckEvery', 'uint'], 7: ['pushAckMs', 'uint'],
  }),
  Authenticate: schema({ 1: ['token', 'string'], 2: ['deviceId', 'string'], 3: ['platform', 'string'] }),
  Authenticated: schema({
    1: ['appId', 'string'], 2: ['userId', 'string'], 3: ['sessionId', 'string'], 4: ['serverTimeMs', 'uint'],
  }),
  Failure,
  Kick: schema({ 1: ['code', 'uint'], 2: ['reason', 'string'], 3: ['message', 'string'] }),
  Redirect: schema({ 1: ['address', 'string'], 2: ['reason', 'string'] }),
  SyncNeeded: schema({ 1: ['reason', 'string'] }),
  ChatMessage: schema({
    1: ['sender', 'string'], 2: ['device', 'string'], 3: ['clientMsgId', 'bytes'], 4: ['kind', 'uint'],
    5: ['content', 'bytes'], 6: ['sentMs', 'uint'], 7: ['control', 'bool'], 8: ['targetSeq', 'uint'],
    9: ['svid', 'uint'],
  }),
  PushedMessage,
  StateChange,
  SeqNotice: schema({ 1: ['stored', Stored, 'many'] }),
  Event: schema({ 1: ['svid', 'uint'], 2: ['name', 'string'], 3: ['body', 'bytes'] }),
  PresenceChange: schema({ 1: ['userId', 'string'], 2: ['online', 'bool'] }),
  StateHint: schema({
    1: ['conversation', 'string'], 2: ['userId', 'string'], 3: ['readSeq', 'uint'], 4: ['deliveredSeq', 'uint'],
    5: ['entryChanged', 'bool'],
  }),
  TypingEvent: schema({ 1: ['conversation', 'string'], 2: ['userId', 'string'] }),
  SendRequest: schema({ 1: ['conversation', 'string'], 2: ['items', SendItem, 'many'], 3: ['traceId', 'string'] }),
  SendResponse: schema({ 1: ['results', SendResult, 'many'] }),
  TypingRequest: schema({ 1: ['conversation', 'string'] }),
  SyncRequest: schema({ 1: ['token', 'bytes'], 2: ['limit', 'uint'] }),
  SyncResponse: schema({ 1: ['token', 'bytes'], 2: ['more', 'bool'], 3: ['entries', ConversationEntry, 'many'] }),
  SetStateRequest: schema({ 1: ['changes', StateChange, 'many'] }),
  SetStateResponse: schema({ 1: ['results', StateResult, 'many'] }),
  ProfilesRequest: schema({ 1: ['userIds', 'string', 'many'] }),
  ProfilesResponse: schema({ 1: ['profiles', Profile, 'many'] }),
  PresenceRequest: schema({ 1: ['userIds', 'string', 'many'] }),
  PresenceResponse: schema({ 1: ['users', UserPresence, 'many'] }),
  HistoryRequest: schema({ 1: ['queries', HistoryQuery, 'many'] }),
  HistoryResponse: schema({ 1: ['pages', HistoryPage, 'many'] }),
});

function writeField(writer, number, kind, value) {
  if (kind === 'uint' || kind === 'bool') {
    writer.varint(number * 8);
    writer.varint(Number(value));
    return;
  }
  writer.varint(number * 8 + 2);
  const bytes = kind === 'bytes' ? value : kind === 'string' ? utf8(value) : encode(kind, value);
  writer.varint(bytes.length);
  writer.append(bytes);
}

/** Bytes of a message. Fields that are missing or have proto3's default are left out. */
export function encode(fields, message) {
  const writer = new Writer();
  for (const [number, [name, kind, how]] of fields) {
    const value = message[name];
    if (value === undefined || value === null) continue;
    if (how === 'many') for (const item of value) writeField(writer, number, kind, item);
    else if (how === 'maybe' || (value !== 0 && value !== '' && value !== false && value.length !== 0)) {
      writeField(writer, number, kind, value);
    }
  }
  return writer.done();
}

function readField(reader, kind, wireType) {
  if (kind === 'uint' || kind === 'bool') {
    if (wireType !== 0) throw new WireError(`wire type ${wireType} where a number belongs`);
    const value = reader.varint();
    return kind === 'bool' ? value !== 0 : value;
  }
  if (wireType !== 2) throw new WireError(`wire type ${wireType} where bytes belong`);
  const bytes = reader.take(reader.varint());
  if (kind === 'bytes') return bytes.slice();
  if (kind !== 'string') return decode(kind, bytes);
  try {
    return strictText.decode(bytes);
  } catch {
    throw new WireError('a text is not UTF-8');
  }
}

const EMPTY = { uint: 0, bool: false, string: '' };

/** The message in those bytes, with proto3's defaults filled in; fields that this client does not know are ignored. */
export function decode(fields, bytes) {
  const message = {};
  for (const [, [name, kind, how]] of fields) {
    if (how === 'many') message[name] = [];
    else if (how !== 'maybe') message[name] = kind === 'bytes' ? new Uint8Array(0) : EMPTY[kind];
  }
  const reader = new Reader(bytes);
  while (reader.more) {
    const key = reader.varint();
    const field = fields.get(Math.floor(key / 8));
    if (!field) {
      reader.skip(key % 8);
      continue;
    }
    const [name, kind, how] = field;
    const value = readField(reader, kind, key % 8);
    if (how === 'many') message[name].push(value);
    else message[name] = value;
  }
  return message;
}

// ---- frames ----

const T = FrameType;
const BODY_ONLY = new Set([
  T.HELLO, T.WELCOME, T.AUTHENTICATE, T.AUTHENTICATED, T.KICK, T.REDIRECT, T.SYNC_NEEDED, T.ERROR, T.EVENT,
]);
const NUMBERED = new Set([T.RESPONSE, T.FAILURE, T.PUSH, T.SEQ_NOTICE]);
const BARE = new Set([T.PING, T.PONG, T.BYE]);

/** Bytes of a frame: one WebSocket message. `id` is the request's or push's number. */
export function encodeFrame(frame) {
  const writer = new Writer();
  writer.byte(frame.type);
  if (NUMBERED.has(frame.type) || frame.type === T.PUSH_ACK) writer.big(frame.id, 4);
  if (frame.type === T.REQUEST || frame.type === T.ORDERED_REQUEST) {
    writer.big(frame.svid, 2);
    writer.big(frame.method, 2);
    writer.big(frame.id, 4);
  }
  if (frame.type === T.ORDERED_REQUEST) {
    const key = utf8(frame.key);
    if (key.length === 0 || key.length > 255) throw new WireError('an order key has 1 to 255 bytes');
    writer.big(frame.turn, 2);
    writer.byte(key.length);
    writer.append(key);
  }
  if (frame.body) writer.append(frame.body);
  return writer.done();
}

/** The frame in one WebSocket message. */
export function decodeFrame(bytes) {
  const reader = new Reader(bytes);
  const frame = { type: reader.byte() };
  if (BARE.has(frame.type)) return whole(frame, reader);
  if (frame.type === T.PUSH_ACK) {
    frame.id = reader.big(4);
    return whole(frame, reader);
  }
  if (NUMBERED.has(frame.type)) frame.id = reader.big(4);
  else if (frame.type === T.REQUEST || frame.type === T.ORDERED_REQUEST) {
    frame.svid = reader.big(2);
    frame.method = reader.big(2);
    frame.id = reader.big(4);
    if (frame.type === T.ORDERED_REQUEST) {
      frame.turn = reader.big(2);
      frame.key = strictText.decode(reader.take(reader.byte()));
    }
  } else if (!BODY_ONLY.has(frame.type)) throw new WireError(`frame type ${frame.type}`);
  frame.body = bytes.slice(reader.at);
  return frame;
}

function whole(frame, reader) {
  if (reader.more) throw new WireError(`frame type ${frame.type} with bytes behind it`);
  return frame;
}
