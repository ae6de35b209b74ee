// Names and ids: conversation ids from user ids, and message ids (UUIDv7, RFC 9562) from the server's clock.

import { utf8 } from './wire.js';

const MOST_BYTES = 64;

/** Users and devices: 1 to 64 bytes of UTF-8 without spaces, control characters or "|". */
export function isUserId(name) {
  const bytes = utf8(name);
  return bytes.length > 0 && bytes.length <= MOST_BYTES && bytes.every((b) => b > 0x20 && b !== 0x7c && b !== 0x7f);
}

/** Byte order, not JavaScript's order of UTF-16 units: every language must agree on who is first. */
function comesFirst(one, other) {
  const [a, b] = [utf8(one), utf8(other)];
  for (let index = 0; index < Math.min(a.length, b.length); index++) {
    if (a[index] !== b[index]) return a[index] < b[index];
  }
  return a.length < b.length;
}

/** The conversation of two users, whichever way round. */
export function pairId(one, other) {
  return comesFirst(one, other) ? `p:${one}|${other}` : `p:${other}|${one}`;
}

/** The other side of a pair; null for other conversations or when the user is not in it. */
export function peerOf(conversation, user) {
  if (!conversation.startsWith('p:')) return null;
  const parts = conversation.slice(2).split('|');
  if (parts.length !== 2) return null;
  if (parts[0] === user) return parts[1];
  return parts[1] === user ? parts[0] : null;
}

export const toHex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
export const fromHex = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));

/** Milliseconds in a message id (hex). */
export const idTime = (hex) => parseInt(hex.slice(0, 12), 16);

/** Makes message ids that grow, also within a millisecond and when the clock is set back. */
export class IdMaker {
  /** @param fill fills a Uint8Array with random bytes */
  constructor(fill) {
    this.fill = fill;
    this.lastMs = 0;
    this.counter = 0;
  }
  /** @param nowMs the server's time */
  next(nowMs) {
    if (nowMs > this.lastMs) {
      this.lastMs = Math.floor(nowMs);
      this.counter = 0;
    } else if (this.counter === 0xfff) {
      this.lastMs += 1;
      this.counter = 0;
    } else this.counter += 1;
    const id = new Uint8Array(16);
    this.fill(id);
    let rest = this.lastMs;
    for (let index = 5; index >= 0; index--) {
      id[index] = rest % 256;
      rest = Math.floor(rest / 256);
    }
    // The 12 bits behind the version are a counter: RFC 9562, section 6.2, method 1.
    id[6] = 0x70 | (this.counter >> 8);
    id[7] = this.counter & 0xff;
    id[8] = 0x80 | (id[8] & 0x3f);
    return toHex(id);
  }
}
