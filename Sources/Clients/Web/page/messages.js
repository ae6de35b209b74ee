// The messages of the open conversation: placed ones, then those that wait. Scrolling stays where the reader is.

import { arrange, byId, node, paintAvatar, setText, show } from './dom.js';
import { summary } from './list.js';
import { dayName, t, timeOf } from './texts.js';

/** This close to an end counts as being there. */
const NEAR_PX = 80;
const LOAD_PX = 240;
/** Messages of one sender within this time form a group. */
const GROUP_MS = 5 * 60_000;
const MARKS = { queued: '◷', sent: '◷', accepted: '✓', delivered: '✓✓', read: '✓✓', failed: '!' };

export class Messages {
  /** @param acts {loadOlder, retry, discard} */
  constructor(acts) {
    this.acts = acts;
    this.scroll = byId('scroll');
    this.list = byId('messages');
    this.scroll.addEventListener('scroll', () => this.scrolled(), { passive: true });
    byId('to-newest').addEventListener('click', () => this.toNewest());
    this.reset(0);
  }

  /** Another conversation is opened. @param unreadFrom its read seq at this moment */
  reset(unreadFrom, hasUnread = false) {
    this.nodes = new Map();
    this.list.replaceChildren();
    this.readBefore = unreadFrom;
    this.lineWanted = hasUnread;
    this.sticky = true;
    this.lastKey = null;
    show(byId('to-newest'), false);
  }

  get nearEnd() {
    return this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight < NEAR_PX;
  }

  scrolled() {
    this.sticky = this.nearEnd;
    if (this.sticky) show(byId('to-newest'), false);
    if (this.scroll.scrollTop < LOAD_PX) this.acts.loadOlder();
  }

  toNewest() {
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  draw(chat, conversation) {
    const rows = conversation.rows.filter((row) => !row.control);
    const waiting = chat.outbox.pending(conversation.id);
    const children = [];
    let before = null;
    let lineDrawn = false;
    const newestOwn = rows.findLast((row) => row.sender === chat.me);
    for (const row of rows) {
      if (!before || dayName(before.timeMs) !== dayName(row.timeMs)) {
        children.push(this.divider(`day-${row.seq}`, 'day', dayName(row.timeMs)));
        before = null;
      }
      if (this.lineWanted && !lineDrawn && row.seq > this.readBefore && row.sender !== chat.me) {
        children.push(this.divider('line', 'unread-line', t('unreadLine')));
        lineDrawn = true;
        before = null;
      }
      children.push(this.placed(chat, conversation, row, before, waiting.length === 0 && row === newestOwn));
      before = row;
    }
    for (const item of waiting) children.push(this.waiting(item));
    this.place(children, rows, waiting, chat);
    this.drawOlder(chat, conversation);
  }

  /** Puts the children in and keeps what the reader looks at where it is. */
  place(children, rows, waiting, chat) {
    const { scroll } = this;
    const stick = this.sticky;
    const fromEnd = scroll.scrollHeight - scroll.scrollTop;
    const firstBefore = this.list.firstElementChild;
    arrange(this.list, children);
    const newest = waiting.at(-1)?.id ?? rows.at(-1)?.id ?? null;
    const isNew = newest !== null && newest !== this.lastKey;
    const mine = waiting.length > 0 || rows.at(-1)?.sender === chat.me;
    if (stick || (isNew && mine)) this.toNewest();
    else if (this.list.firstElementChild !== firstBefore) scroll.scrollTop = scroll.scrollHeight - fromEnd;
    if (isNew && !stick && !mine && this.lastKey !== null) show(byId('to-newest'), true);
    this.lastKey = newest;
  }

  drawOlder(chat, conversation) {
    const older = byId('older');
    const loading = chat.isLoading(conversation.id);
    setText(older, loading ? t('older') : t('beginning'));
    show(older, loading || (conversation.reachedStart && conversation.rows.length > 0));
  }

  divider(key, className, text) {
    let element = this.nodes.get(key);
    if (!element) {
      element = node('li', `divider ${className}`);
      element.append(node('span', '', text));
      this.nodes.set(key, element);
    }
    setText(element.firstChild, text);
    return element;
  }

  bubble(key, mine) {
    let parts = this.nodes.get(key);
    if (parts) return parts;
    parts = { item: node('li', `message ${mine ? 'mine' : 'theirs'}`) };
    parts.body = node('div', 'bubble');
    parts.text = node('span', 'text');
    parts.meta = node('span', 'meta');
    parts.time = node('time');
    parts.mark = node('span', 'mark');
    parts.meta.append(parts.time, parts.mark);
    parts.body.append(parts.text, parts.meta);
    parts.note = node('div', 'note');
    parts.item.append(parts.body, parts.note);
    this.nodes.set(key, parts);
    return parts;
  }

  placed(chat, conversation, row, before, last) {
    const mine = row.sender === chat.me;
    // The bubble of a message that was waiting a moment ago becomes the placed one: nothing flickers.
    const parts = this.bubble(mine && row.id ? row.id : row.seq, mine);
    const together = before?.sender === row.sender && row.timeMs - before.timeMs < GROUP_MS;
    parts.item.classList.toggle('together', Boolean(together));
    parts.item.classList.remove('is-failed');
    parts.body.classList.toggle('faint', row.recalled || row.lost);
    setText(parts.text, summary(row));
    setText(parts.time, timeOf(row.timeMs));
    parts.time.dateTime = new Date(row.timeMs).toISOString();
    if (mine) this.mark(parts, conversation.markOf(row), last);
    return parts.item;
  }

  waiting(item) {
    const parts = this.bubble(item.id, true);
    setText(parts.text, summary({ ...item, recalled: false, lost: false }));
    setText(parts.time, '');
    this.mark(parts, item.state, true);
    parts.item.classList.toggle('is-failed', item.state === 'failed');
    if (item.state === 'failed' && parts.failure !== item.failure) {
      // Drawn once: a button must not be exchanged while it is pressed.
      parts.failure = item.failure;
      setText(parts.note, '');
      const again = node('button', 'link', t('tryAgain'));
      const drop = node('button', 'link', t('discard'));
      again.addEventListener('click', () => this.acts.retry(item.id));
      drop.addEventListener('click', () => this.acts.discard(item.id));
      parts.note.append(`${t('failed')} (${item.failure.reason}) `, again, ' ', drop);
    }
    return parts.item;
  }

  mark(parts, state, inWords) {
    setText(parts.mark, MARKS[state]);
    parts.mark.className = `mark is-${state}`;
    parts.mark.title = t(state);
    parts.mark.setAttribute('aria-label', t(state));
    if (state === 'failed') return;
    parts.failure = null;
    setText(parts.note, inWords ? t(state) : '');
  }
}

/** The head of the open conversation. */
export function drawHead(chat, conversation, now) {
  const name = chat.people.name(conversation.peer);
  paintAvatar(byId('peer-avatar'), conversation.peer, name);
  setText(byId('peer-name'), name);
  const state = byId('peer-state');
  const online = chat.people.online.get(conversation.peer);
  const typing = chat.people.isTyping(conversation.id, now);
  const word = online === undefined ? '' : t(online ? 'online' : 'offline');
  setText(state, typing ? t('typing') : word);
  state.className = online ? 'is-online' : '';
}
