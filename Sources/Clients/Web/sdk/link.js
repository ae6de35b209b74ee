// The connection as a state machine: handshake, heartbeats, requests, push-acks, and coming back after a loss.
// Pure: events and the time come in, actions go out through `emit`; `client.js` does them.

import { FrameType as T, Schemas, WireError, decode, decodeFrame, encode, encodeFrame } from './wire.js';

export const PROTOCOL_VERSION = 1;
const HANDSHAKE_MS = 10_000;
const REQUEST_MS = 10_000;
const RECONNECT_MS = 300;
const RECONNECT_MOST_MS = 5000;
/** Requests on their way; the server takes 64 of a session. */
export const MOST_REQUESTS = 48;
/** Periods without a frame after which the connection is taken for dead. */
const MISSED = 2;
const UNSUPPORTED_VERSION = 103;

/** Errors of identity do not go away by trying again: whoever started us has to act. */
const isFinal = (code) => code === UNSUPPORTED_VERSION || (code >= 200 && code < 300);

export class Link {
  /**
   * @param options {url, token, deviceId, platform, client, random}
   * @param handler told of: status, ready, lost, ended, push, seqNotice, syncNeeded, event
   * @param emit takes actions: {do: 'connect' | 'transmit' | 'disconnect', ...}
   */
  constructor(options, handler, emit) {
    this.options = options;
    this.handler = handler;
    this.emit = emit;
    /** idle, waiting, connecting, hello, authenticating, ready, ended */
    this.phase = 'idle';
    this.phaseEnds = Infinity;
    this.attempts = 0;
    this.url = options.url;
    /** Server time minus local time. */
    this.offset = 0;
    this.welcome = null;
    this.clear();
  }

  clear() {
    this.requests = new Map();
    this.nextRequest = 1;
    this.lastSent = 0;
    this.lastReceived = 0;
    /** Highest push id up to which all came, ids that came beyond it, and what the server has been told. */
    this.pushed = 0;
    this.beyond = new Set();
    this.unacked = 0;
    this.ackAt = Infinity;
  }

  get ready() {
    return this.phase === 'ready';
  }

  enter(phase, ends, now) {
    this.phase = phase;
    this.phaseEnds = ends;
    this.handler.status(phase, now);
  }

  start(now) {
    this.enter('connecting', now + HANDSHAKE_MS, now);
    this.emit({ do: 'connect', url: this.url });
  }

  /** Ends for good, with a goodbye where there is somebody to hear it. */
  stop(now) {
    if (this.phase === 'ended') return;
    if (this.ready) this.transmit({ type: T.BYE }, now);
    this.enter('ended', Infinity, now);
    this.emit({ do: 'disconnect' });
  }

  /** The network or the user is back: do not wait any longer. */
  hurry(now) {
    if (this.phase === 'waiting') this.start(now);
  }

  opened(now) {
    if (this.phase !== 'connecting') return;
    this.clear();
    this.lastReceived = now;
    this.enter('hello', this.phaseEnds, now);
    const hello = { version: PROTOCOL_VERSION, capabilities: [], client: this.options.client };
    this.transmit({ type: T.HELLO, body: encode(Schemas.Hello, hello) }, now);
  }

  closed(now) {
    if (this.phase === 'ended' || this.phase === 'idle' || this.phase === 'waiting') return;
    const wasReady = this.ready;
    // An address that we were sent to and cannot use is forgotten.
    if (!wasReady) this.url = this.options.url;
    const ceiling = Math.min(RECONNECT_MOST_MS, RECONNECT_MS * 2 ** Math.min(this.attempts, 10));
    this.attempts += 1;
    const waiting = [...this.requests.values()];
    this.clear();
    this.enter('waiting', now + ceiling / 2 + (this.options.random() * ceiling) / 2, now);
    for (const request of waiting) request.failed(unknown('the connection was lost'), now);
    if (wasReady) this.handler.lost(now);
  }

  drop(now) {
    this.emit({ do: 'disconnect' });
    this.closed(now);
  }

  end(failure, now) {
    this.enter('ended', Infinity, now);
    this.emit({ do: 'disconnect' });
    this.handler.ended(failure, now);
  }

  transmit(frame, now) {
    this.lastSent = now;
    this.emit({ do: 'transmit', bytes: encodeFrame(frame) });
  }

  get hasRoom() {
    return this.ready && this.requests.size < MOST_REQUESTS;
  }

  /**
   * Asks a service. `answered(body, now)` or `failed(failure, now)` is called exactly once.
   * @param call {svid, method, body, key, turn}; with `key` an ordered request
   */
  request(call, answered, failed, now) {
    const id = this.nextRequest;
    this.nextRequest = id === 0xffffffff ? 1 : id + 1;
    this.requests.set(id, { answered, failed, ends: now + REQUEST_MS });
    const type = call.key === undefined ? T.REQUEST : T.ORDERED_REQUEST;
    this.transmit({ type, id, ...call }, now);
    return id;
  }

  received(bytes, now) {
    if (!['hello', 'authenticating', 'ready'].includes(this.phase)) return;
    this.lastReceived = now;
    try {
      this.take(decodeFrame(bytes), now);
    } catch (error) {
      if (!(error instanceof WireError) && !(error instanceof TypeError)) throw error;
      // Bytes that cannot be understood: nothing behind them can be trusted either.
      this.drop(now);
    }
  }

  take(frame, now) {
    switch (frame.type) {
      case T.WELCOME: return this.welcomed(decode(Schemas.Welcome, frame.body), now);
      case T.AUTHENTICATED: return this.authenticated(decode(Schemas.Authenticated, frame.body), now);
      case T.PING: return this.transmit({ type: T.PONG }, now);
      case T.RESPONSE: return this.finish(frame.id, (request) => request.answered(frame.body, now));
      case T.FAILURE:
        return this.finish(frame.id, (request) => request.failed(decode(Schemas.Failure, frame.body), now));
      case T.PUSH: return this.pushFrame(frame, Schemas.PushedMessage, (body) => this.handler.push(body, now), now);
      case T.SEQ_NOTICE:
        return this.pushFrame(frame, Schemas.SeqNotice, (body) => this.handler.seqNotice(body, now), now);
      case T.EVENT: return this.handler.event(decode(Schemas.Event, frame.body), now);
      case T.SYNC_NEEDED: return this.handler.syncNeeded(now);
      case T.KICK: return this.told(decode(Schemas.Kick, frame.body), now);
      case T.ERROR: return this.told(decode(Schemas.Failure, frame.body), now);
      case T.REDIRECT: return this.redirected(decode(Schemas.Redirect, frame.body), now);
      default: return undefined;
    }
  }

  welcomed(welcome, now) {
    if (this.phase !== 'hello') return;
    this.welcome = welcome;
    this.offset = welcome.serverTimeMs - now;
    this.enter('authenticating', this.phaseEnds, now);
    const body = encode(Schemas.Authenticate, {
      token: this.options.token, deviceId: this.options.deviceId, platform: this.options.platform,
    });
    this.transmit({ type: T.AUTHENTICATE, body }, now);
  }

  authenticated(session, now) {
    if (this.phase !== 'authenticating') return;
    this.attempts = 0;
    this.enter('ready', Infinity, now);
    this.handler.ready(session, now);
  }

  told(failure, now) {
    if (isFinal(failure.code)) this.end(failure, now);
    else this.drop(now);
  }

  redirected(redirect, now) {
    if (/^wss?:\/\//.test(redirect.address)) this.url = redirect.address;
    this.drop(now);
  }

  finish(id, how) {
    const request = this.requests.get(id);
    if (!request) return;
    this.requests.delete(id);
    how(request);
  }

  pushFrame(frame, schema, process, now) {
    if (!this.ready) return;
    const seen = frame.id <= this.pushed || this.beyond.has(frame.id);
    if (!seen) {
      process(decode(schema, frame.body));
      this.beyond.add(frame.id);
      // Acks are cumulative, so only an unbroken run may be acknowledged.
      while (this.beyond.delete(this.pushed + 1)) this.pushed += 1;
    }
    this.unacked += 1;
    if (this.unacked >= (this.welcome.pushAckEvery || 1)) this.acknowledge(now);
    else this.ackAt = Math.min(this.ackAt, now + this.welcome.pushAckMs);
  }

  acknowledge(now) {
    this.unacked = 0;
    this.ackAt = Infinity;
    if (this.ready && this.pushed > 0) this.transmit({ type: T.PUSH_ACK, id: this.pushed }, now);
  }

  /** When `tick` has something to do. */
  deadline() {
    let soonest = this.phaseEnds;
    if (!this.ready) return soonest;
    const dead = this.lastReceived + MISSED * this.heartbeat;
    soonest = Math.min(soonest, this.ackAt, this.lastSent + this.heartbeat, dead);
    for (const request of this.requests.values()) soonest = Math.min(soonest, request.ends);
    return soonest;
  }

  get heartbeat() {
    return this.welcome?.heartbeatMs || 30_000;
  }

  tick(now) {
    if (this.phaseEnds <= now) {
      if (this.phase === 'waiting') this.start(now);
      else this.drop(now);
      return;
    }
    if (!this.ready) return;
    if (this.lastReceived + MISSED * this.heartbeat <= now) {
      this.drop(now);
      return;
    }
    if (this.ackAt <= now) this.acknowledge(now);
    if (this.lastSent + this.heartbeat <= now) this.transmit({ type: T.PING }, now);
    for (const [id, request] of [...this.requests]) {
      if (request.ends > now) continue;
      this.requests.delete(id);
      request.failed(unknown('no answer in time'), now);
    }
  }
}

/** Nobody knows what became of a request. */
const unknown = (message) => ({ code: 500, reason: 'outcome_unknown', message, retryable: true, retryAfterMs: 0 });
