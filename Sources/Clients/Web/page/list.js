// The list of conversations.

import { ContentKind, fromUtf8 } from '../sdk/wire.js';
import { arrange, byId, node, paintAvatar, setText, show } from './dom.js';
import { t, timeInList } from './texts.js';

/** What a message looks like in one line. */
export function summary(row) {
  if (row.recalled) return t('recalled');
  if (row.lost) return t('lost');
  return row.kind === ContentKind.TEXT ? fromUtf8(row.content) : t('unsupported');
}

export class List {
  /** @param choose called with a conversation's id */
  constructor(choose) {
    this.choose = choose;
    this.entries = new Map();
    byId('list').addEventListener('keydown', (event) => this.walk(event));
  }

  clear() {
    this.entries.clear();
    byId('list').replaceChildren();
  }

  walk(event) {
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
    const buttons = [...byId('list').querySelectorAll('button')];
    const next = buttons.indexOf(document.activeElement) + (event.key === 'ArrowDown' ? 1 : -1);
    buttons[next]?.focus();
    event.preventDefault();
  }

  /** Draws all; returns how many messages are unread. */
  draw(chat, now) {
    const shown = [...chat.conversations.values()]
      .filter((c) => c.peer && (c.last || c.id === chat.openId || chat.outbox.pending(c.id).length > 0))
      .map((c) => ({ c, waiting: chat.outbox.pending(c.id).at(-1) }));
    const time = ({ c, waiting }) => (waiting ? Infinity : c.headTimeMs);
    shown.sort((a, b) => b.c.pinned - a.c.pinned || time(b) - time(a) || (a.c.id < b.c.id ? -1 : 1));
    arrange(byId('list'), shown.map(({ c, waiting }) => this.entry(chat, c, waiting, now)));
    show(byId('list-empty'), chat.synced && shown.length === 0);
    return shown.reduce((sum, { c }) => sum + this.unread(c), 0);
  }

  unread(conversation) {
    return conversation.unread ?? conversation.counted.unread;
  }

  entry(chat, conversation, waiting, now) {
    const parts = this.parts(conversation.id);
    const name = chat.people.name(conversation.peer);
    paintAvatar(parts.avatar, conversation.peer, name);
    setText(parts.name, name);
    const online = chat.people.online.get(conversation.peer) === true;
    show(parts.dot, online);
    const last = waiting ?? conversation.last;
    const typing = chat.people.isTyping(conversation.id, now);
    const mine = waiting || last?.sender === chat.me;
    setText(parts.preview, typing ? t('typing') : last ? (mine ? t('you') : '') + summary(last) : '');
    parts.preview.classList.toggle('typing', typing);
    setText(parts.time, conversation.headTimeMs > 0 ? timeInList(conversation.headTimeMs) : '');
    const unread = this.unread(conversation);
    setText(parts.badge, unread > 99 ? '99+' : String(unread));
    parts.badge.setAttribute('aria-label', t('unreadCount', unread));
    show(parts.badge, unread > 0);
    parts.button.setAttribute('aria-current', String(conversation.id === chat.openId));
    parts.button.classList.toggle('has-unread', unread > 0);
    return parts.item;
  }

  parts(id) {
    if (this.entries.has(id)) return this.entries.get(id);
    const parts = {
      item: node('li'), button: node('button', 'entry'), avatar: node('span', 'avatar'), dot: node('span', 'dot'),
      name: node('span', 'name'), time: node('span', 'time'), preview: node('span', 'preview'),
      badge: node('span', 'badge'),
    };
    parts.button.type = 'button';
    parts.dot.title = t('online');
    const face = node('span', 'face');
    face.append(parts.avatar, parts.dot);
    const top = node('span', 'line');
    top.append(parts.name, parts.time);
    const bottom = node('span', 'line');
    bottom.append(parts.preview, parts.badge);
    const lines = node('span', 'lines');
    lines.append(top, bottom);
    parts.button.append(face, lines);
    parts.button.addEventListener('click', () => this.choose(id));
    parts.item.append(parts.button);
    this.entries.set(id, parts);
    return parts;
  }
}
