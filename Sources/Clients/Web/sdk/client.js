// The Web SDK: a Chat machine with a WebSocket, a timer and storage. It decides nothing; see chat.js.
//
//   const client = new MartletClient({ url, token, userId });
//   client.addEventListener('change', (event) => ...event.detail.conversation...);
//   client.start();
//   client.send(client.startWith('bob'), 'hello');

import { Chat } from './chat.js';
import { fromHex, toHex } from './ids.js';

const VERSION = 'martlet-web/0.1';
const PREFIX = 'martlet';

/** What has to outlive a reload: this device's id, the clock's offset, and messages that have no place yet. */
export class Keeper {
  /** @param storage a Storage, for example window.localStorage */
  constructor(storage, appId, userId) {
    this.storage = storage;
    this.root = `${PREFIX}:${appId}/${userId}`;
  }

  read(name) {
    try {
      return this.storage.getItem(`${this.root}:${name}`);
    } catch {
      return null;
    }
  }

  /** False when the browser does not keep it (full, or forbidden). */
  write(name, value) {
    try {
      this.storage.setItem(`${this.root}:${name}`, value);
      return true;
    } catch {
      return false;
    }
  }

  deviceId(fill) {
    const known = this.read('device');
    if (known) return known;
    const bytes = new Uint8Array(12);
    fill(bytes);
    const id = `web-${toHex(bytes)}`;
    this.write('device', id);
    return id;
  }

  // One entry per message, so that two windows of one user cannot overwrite each other's.
  save(item) {
    return this.write(`out:${item.id}`, JSON.stringify({ ...item, content: toHex(item.content) }));
  }

  forget(id) {
    try {
      this.storage.removeItem(`${this.root}:out:${id}`);
    } catch {
      // A storage that cannot be written holds nothing of ours.
    }
  }

  pending() {
    const items = [];
    const prefix = `${this.root}:out:`;
    try {
      for (let index = 0; index < this.storage.length; index++) {
        const key = this.storage.key(index);
        if (!key?.startsWith(prefix)) continue;
        const item = JSON.parse(this.storage.getItem(key));
        if (typeof item.conversation === 'string') items.push({ ...item, content: fromHex(item.content) });
      }
    } catch {
      return items;
    }
    return items;
  }
}

/**
 * Events, as CustomEvent: `status` {phase}, `change` {conversation or null for all}, `arrived` {conversation, rows},
 * `ended` {failure}, `unsaved` {id} (a message that a reload would lose).
 */
export class MartletClient extends EventTarget {
  /**
   * @param options {url, token, userId, appId}, and for tests {WebSocket, storage, now, random, fill, setTimer,
   *   clearTimer}
   */
  constructor(options) {
    super();
    this.WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.now = options.now ?? (() => Date.now());
    this.setTimer = options.setTimer ?? ((work, ms) => setTimeout(work, ms));
    this.clearTimer = options.clearTimer ?? ((timer) => clearTimeout(timer));
    const fill = options.fill ?? ((bytes) => crypto.getRandomValues(bytes));
    this.keeper = new Keeper(options.storage ?? globalThis.localStorage, options.appId ?? '', options.userId);
    this.chat = new Chat({
      url: options.url, token: options.token, userId: options.userId, platform: 'web', client: VERSION, fill,
      deviceId: this.keeper.deviceId(fill), random: options.random ?? Math.random,
      offset: Number(this.keeper.read('offset') ?? 0),
    });
    this.chat.restore(this.keeper.pending());
    this.socket = null;
    this.timer = null;
    this.stepping = false;
  }

  /** Runs a step of the machine and does what it wants. A listener may take a step of its own: what it wants waits. */
  step(work) {
    const result = work(this.chat, this.now());
    if (this.stepping) return result;
    this.stepping = true;
    try {
      for (let actions = this.chat.take(); actions.length > 0; actions = this.chat.take()) {
        for (const action of actions) this.perform(action);
      }
    } finally {
      this.stepping = false;
    }
    this.clearTimer(this.timer);
    const now = this.now();
    const due = this.chat.deadline(now);
    // Timers are 32 bits; a later deadline is looked at again then.
    const wait = Math.min(2 ** 31 - 1, Math.max(0, Math.ceil(due - now)));
    this.timer = due === Infinity ? null : this.setTimer(() => this.step((chat, at) => chat.tick(at)), wait);
    return result;
  }

  perform(action) {
    switch (action.do) {
      case 'connect': return this.connect(action.url);
      case 'transmit': return this.socket?.readyState === 1 ? this.socket.send(action.bytes) : undefined;
      case 'disconnect': return this.disconnect();
      case 'save': return this.keeper.save(action.item) ? undefined : this.tell('unsaved', { id: action.item.id });
      case 'forget': return this.keeper.forget(action.id);
      case 'offset': return this.keeper.write('offset', String(action.offset));
      case 'status': return this.tell('status', { phase: action.phase });
      case 'changed': return this.tell('change', { conversation: action.conversation });
      case 'arrived': return this.tell('arrived', { conversation: action.conversation, rows: action.rows });
      case 'ended': return this.tell('ended', { failure: action.failure });
      default: throw new Error(`unknown action ${action.do}`);
    }
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  connect(url) {
    this.disconnect();
    const socket = new this.WebSocket(url);
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    // A socket that was given up may still speak; only the current one is heard.
    const heard = (work) => (event) => {
      if (socket === this.socket) this.step((chat, now) => work(chat, now, event));
    };
    socket.onopen = heard((chat, now) => chat.link.opened(now));
    socket.onmessage = heard((chat, now, event) => {
      if (event.data instanceof ArrayBuffer) chat.received(new Uint8Array(event.data), now);
      else chat.link.drop(now);
    });
    socket.onclose = heard((chat, now) => chat.link.closed(now));
  }

  disconnect() {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  start() {
    this.step((chat, now) => chat.link.start(now));
  }

  stop() {
    this.step((chat, now) => chat.link.stop(now));
    this.clearTimer(this.timer);
  }

  /** The page is looked at again, or the network is back. */
  foreground() {
    this.step((chat, now) => chat.foreground(now));
  }

  /** Throws RangeError('message_too_large' or 'too_many_pending'). */
  send(conversation, text) {
    return this.step((chat, now) => chat.send(conversation, text, now));
  }

  startWith(userId) {
    return this.step((chat, now) => chat.startWith(userId, now));
  }

  /** Who a user is: a profile whose `exists` says whether there is one; undefined when nobody could be asked. */
  whoIs(userId) {
    return new Promise((resolve) => this.step((chat, now) => chat.people.lookUp([userId], resolve, now)));
  }

  open(conversation, watching) {
    this.step((chat, now) => chat.open(conversation, watching, now));
  }

  watch(watching) {
    this.step((chat, now) => chat.watch(watching, now));
  }

  loadOlder() {
    this.step((chat, now) => chat.loadOlder(now));
  }

  typing() {
    this.step((chat, now) => {
      if (chat.openId !== null) chat.people.typing(chat.openId, now);
    });
  }

  retry(id) {
    this.step((chat, now) => chat.retry(id, now));
  }

  discard(id) {
    this.step((chat) => chat.discard(id));
  }
}
