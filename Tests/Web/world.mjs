// One clock, one network and any number of clients in memory: deterministic tests of the SDK.

import './globals.mjs';
import { MartletClient } from '../../Sources/Clients/Web/sdk/client.js';
import { FakeServer } from './fake-server.mjs';
import { fromUtf8 } from '../../Sources/Clients/Web/sdk/wire.js';

/** A Storage in memory. */
export class MemoryStorage {
  constructor() { this.map = new Map(); }
  get length() { return this.map.size; }
  key(index) { return [...this.map.keys()][index] ?? null; }
  getItem(key) { return this.map.get(key) ?? null; }
  setItem(key, value) { this.map.set(key, String(value)); }
  removeItem(key) { this.map.delete(key); }
}

export class World {
  constructor(seed = 1) {
    this.time = 1_700_000_000_000;
    this.queue = [];
    this.order = 0;
    this.seed = seed;
    this.serverSkew = 0;
    this.up = true;
    this.server = new FakeServer(() => this.time + this.serverSkew);
    for (const user of ['alice', 'bob', 'carol']) this.server.addUser(user);
    this.storages = new Map();
  }

  // Mulberry32, a public-domain generator: the same numbers from the same seed.
  random() {
    this.seed = (this.seed + 0x6d2b79f5) | 0;
    let word = Math.imul(this.seed ^ (this.seed >>> 15), this.seed | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return ((word ^ (word >>> 14)) >>> 0) / 2 ** 32;
  }

  at(ms, work) {
    const entry = { due: this.time + ms, order: this.order++, work };
    this.queue.push(entry);
    return entry;
  }

  cancel(entry) {
    if (entry) entry.work = null;
  }

  /** Lets so many milliseconds pass. */
  run(ms) {
    const end = this.time + ms;
    for (let steps = 0; ; steps++) {
      if (steps > 200_000) throw new Error('the clients never come to rest');
      this.queue.sort((a, b) => a.due - b.due || a.order - b.order);
      if (this.queue.length === 0 || this.queue[0].due > end) break;
      const entry = this.queue.shift();
      this.time = Math.max(this.time, entry.due);
      entry.work?.();
    }
    this.time = end;
  }

  get socketClass() {
    const world = this;
    return class {
      constructor() {
        this.readyState = 0;
        world.at(1, () => this.begin());
      }
      begin() {
        if (this.readyState !== 0) return;
        if (!world.up) {
          this.shut();
          return;
        }
        this.readyState = 1;
        this.side = world.server.connect(
          (bytes) => world.at(1, () => this.hear(bytes)), () => world.at(1, () => this.shut()));
        this.onopen({});
      }
      hear(bytes) {
        if (this.readyState === 1) this.onmessage({ data: bytes.slice().buffer });
      }
      shut() {
        if (this.readyState === 3) return;
        this.readyState = 3;
        this.side?.closed();
        this.onclose({});
      }
      send(bytes) {
        world.at(1, () => { if (this.readyState === 1) this.side.receive(bytes.slice()); });
      }
      close() {
        world.at(1, () => this.shut());
      }
    };
  }

  client(user, token = user) {
    if (!this.storages.has(user)) this.storages.set(user, new MemoryStorage());
    const client = new MartletClient({
      url: 'ws://test/ws', token, userId: user, appId: 'demo', WebSocket: this.socketClass,
      storage: this.storages.get(user), now: () => this.time, random: () => this.random(),
      fill: (bytes) => bytes.forEach((_, index) => { bytes[index] = Math.floor(this.random() * 256); }),
      setTimer: (work, ms) => this.at(ms, work), clearTimer: (entry) => this.cancel(entry),
    });
    client.phases = [];
    client.addEventListener('status', (event) => client.phases.push(event.detail.phase));
    client.addEventListener('ended', (event) => { client.endedWith = event.detail.failure; });
    client.start();
    return client;
  }

  crash() {
    this.up = false;
    this.server.kill();
  }
}

/** What a user would see: the placed messages, then what waits. */
export function view(client, conversation) {
  const held = client.chat.conversations.get(conversation);
  const placed = (held?.rows ?? []).map((row) => (row.recalled ? '(recalled)' : fromUtf8(row.content)));
  const waiting = client.chat.outbox.pending(conversation).map((item) => `${fromUtf8(item.content)} [${item.state}]`);
  return [...placed, ...waiting];
}
