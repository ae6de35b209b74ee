// The chat page: login, what is open, and drawing what the SDK knows.

import { MartletClient } from './sdk/client.js';
import { isUserId, peerOf } from './sdk/ids.js';
import { List } from './page/list.js';
import { Messages, drawHead } from './page/messages.js';
import { byId, complain, setText, show } from './page/dom.js';
import { t, translate } from './page/texts.js';

const SESSION = 'martlet:session';
/** A connection that is back sooner than this was never missed. */
const BANNER_AFTER_MS = 600;
const DRAW_EVERY_MS = 30;
const RATE_LIMITED = 406;

class App {
  constructor() {
    this.client = null;
    this.drawTimer = null;
    this.bannerTimer = null;
    this.drafts = new Map();
    this.list = new List((id) => this.open(id));
    this.messages = new Messages({
      loadOlder: () => this.client?.loadOlder(), retry: (id) => this.client.retry(id),
      discard: (id) => this.client.discard(id),
    });
    this.listen();
  }

  listen() {
    byId('login-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.logIn(byId('login-user').value.trim(), byId('login-password').value);
    });
    byId('log-out').addEventListener('click', () => this.logOut());
    byId('start-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.begin(byId('start-user').value.trim());
    });
    byId('compose').addEventListener('submit', (event) => {
      event.preventDefault();
      this.send();
    });
    byId('text').addEventListener('keydown', (event) => {
      // Enter that ends the composing of Chinese or Japanese text is not meant for us.
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.send();
    });
    byId('text').addEventListener('input', () => this.typed());
    byId('back').addEventListener('click', () => this.open(null));
    byId('banner-button').addEventListener('click', () => this.connect(this.session));
    document.addEventListener('keydown', (event) => {
      if (event.key === 'Escape' && this.client?.chat.openId) this.open(null);
    });
    document.addEventListener('visibilitychange', () => this.looked());
    window.addEventListener('online', () => this.client?.foreground());
    window.addEventListener('hashchange', () => this.followHash());
    window.addEventListener('resize', () => { if (this.messages.sticky) this.messages.toNewest(); });
  }

  // ---- login ----

  start() {
    translate();
    let session = null;
    try {
      session = JSON.parse(sessionStorage.getItem(SESSION));
    } catch {
      session = null;
    }
    if (session?.token) this.connect(session);
    else this.askLogin(null);
  }

  askLogin(complaint) {
    show(byId('chat'), false);
    show(byId('login'), true);
    document.title = 'Martlet';
    complain(byId('login-error'), complaint);
    byId('login-user').focus();
  }

  async logIn(user, password) {
    const button = byId('login-button');
    button.disabled = true;
    setText(button, t('loggingIn'));
    try {
      const answer = await fetch('demo/login', {
        method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ user, password }),
      });
      const body = await answer.json();
      if (answer.ok) {
        byId('login-password').value = '';
        sessionStorage.setItem(SESSION, JSON.stringify(body));
        this.connect(body);
      } else if (body.code === RATE_LIMITED) this.askLogin(t('tooManyTries'));
      else this.askLogin(answer.status === 401 ? t('badPassword') : t('loginFailed', body.message));
    } catch {
      this.askLogin(t('unreachable'));
    } finally {
      button.disabled = false;
      setText(button, t('logIn'));
    }
  }

  logOut() {
    this.client?.stop();
    this.client = null;
    sessionStorage.removeItem(SESSION);
    this.drafts.clear();
    history.replaceState(null, '', location.pathname);
    this.list.clear();
    this.askLogin(null);
  }

  connect(session) {
    this.session = session;
    this.client?.stop();
    const client = new MartletClient({
      url: session.ws_url, token: session.token, userId: session.user_id, appId: session.app_id,
    });
    this.client = client;
    const mine = (work) => (event) => { if (client === this.client) work(event.detail); };
    client.addEventListener('change', mine(() => this.drawSoon()));
    client.addEventListener('status', mine(({ phase }) => this.connection(phase)));
    client.addEventListener('ended', mine(({ failure }) => this.ended(failure)));
    client.addEventListener('unsaved', mine(() => complain(byId('compose-error'), t('unsaved'))));
    show(byId('login'), false);
    show(byId('chat'), true);
    setText(byId('me'), session.user_id);
    this.list.clear();
    this.showOpen(null);
    client.start();
    this.followHash();
    this.drawSoon();
  }

  ended(failure) {
    if (failure.reason === 'displaced_by_newer_login') {
      this.banner(t('displaced'), t('useHere'));
      return;
    }
    sessionStorage.removeItem(SESSION);
    this.client = null;
    this.list.clear();
    this.askLogin(`${t('sessionEnded')} (${failure.reason})`);
  }

  connection(phase) {
    this.drawSoon();
    if (phase === 'ready') {
      clearTimeout(this.bannerTimer);
      this.bannerTimer = null;
      this.banner(null);
    } else if (phase !== 'ended' && this.bannerTimer === null) {
      this.bannerTimer = setTimeout(() => {
        if (this.client) this.banner(t(this.client.chat.synced ? 'reconnecting' : 'connecting'));
      }, BANNER_AFTER_MS);
    }
  }

  banner(text, button) {
    if (button) {
      clearTimeout(this.bannerTimer);
      this.bannerTimer = null;
    }
    setText(byId('banner-text'), text ?? '');
    setText(byId('banner-button'), button ?? '');
    show(byId('banner-button'), Boolean(button));
    byId('banner').classList.toggle('is-final', Boolean(button));
    show(byId('banner'), Boolean(text));
  }

  looked() {
    const visible = document.visibilityState === 'visible';
    this.client?.watch(visible);
    if (visible) this.client?.foreground();
  }

  // ---- conversations ----

  followHash() {
    const user = decodeURIComponent(location.hash.slice(1));
    if (!this.client || !isUserId(user) || user === this.session.user_id) return;
    const id = this.client.startWith(user);
    if (id !== this.client.chat.openId) this.open(id);
  }

  async begin(user) {
    complain(byId('start-error'), null);
    if (!user) return;
    if (!isUserId(user)) return complain(byId('start-error'), t('badUser'));
    if (user === this.session.user_id) return complain(byId('start-error'), t('yourself'));
    const client = this.client;
    const profile = await client.whoIs(user);
    if (client !== this.client) return undefined;
    if (!profile) return complain(byId('start-error'), t('reconnecting'));
    if (!profile.exists) return complain(byId('start-error'), t('noSuchUser', user));
    byId('start-user').value = '';
    return this.open(client.startWith(user));
  }

  open(id) {
    const { chat } = this.client;
    if (chat.openId) this.drafts.set(chat.openId, byId('text').value);
    const conversation = id && chat.conversations.get(id);
    if (id !== chat.openId || !id) this.messages.reset(conversation?.readSeq ?? 0, this.hasUnread(conversation));
    this.client.open(id, document.visibilityState === 'visible');
    this.showOpen(id);
    const peer = id ? peerOf(id, this.session.user_id) : '';
    history.replaceState(null, '', peer ? `#${encodeURIComponent(peer)}` : location.pathname);
    this.draw();
    if (id) byId('text').focus({ preventScroll: true });
    else byId('list').querySelector('button')?.focus({ preventScroll: true });
  }

  hasUnread(conversation) {
    return Boolean(conversation) && this.list.unread(conversation) > 0;
  }

  showOpen(id) {
    show(byId('open'), Boolean(id));
    show(byId('nothing'), !id);
    byId('chat').classList.toggle('is-open', Boolean(id));
    byId('text').value = (id && this.drafts.get(id)) || '';
    complain(byId('compose-error'), null);
    this.fitText();
  }

  // ---- writing ----

  typed() {
    this.fitText();
    complain(byId('compose-error'), null);
    if (byId('text').value) this.client.typing();
  }

  /** The field grows with its text up to the style's limit. */
  fitText() {
    const text = byId('text');
    text.style.height = 'auto';
    if (text.scrollHeight > 0) text.style.height = `${text.scrollHeight + 2}px`;
  }

  send() {
    const text = byId('text').value.trim();
    const { openId } = this.client.chat;
    if (!text || !openId) return;
    try {
      this.client.send(openId, text);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      complain(byId('compose-error'), t(error.message));
      return;
    }
    byId('text').value = '';
    this.fitText();
    byId('text').focus();
  }

  // ---- drawing ----

  drawSoon() {
    if (this.drawTimer !== null) return;
    this.drawTimer = setTimeout(() => {
      this.drawTimer = null;
      this.draw();
    }, DRAW_EVERY_MS);
  }

  draw() {
    if (!this.client) return;
    const { chat } = this.client;
    const now = Date.now();
    const unread = this.list.draw(chat, now);
    document.title = unread > 0 ? `(${unread}) Martlet` : 'Martlet';
    const conversation = chat.openId && chat.conversations.get(chat.openId);
    if (!conversation) return;
    drawHead(chat, conversation, now);
    this.messages.draw(chat, conversation);
  }
}

new App().start();
