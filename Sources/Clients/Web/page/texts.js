// Every text that the page shows, in the reader's language.

const TEXTS = {
  en: {
    loginHint: 'Log in with a demo user. Names and passwords are printed where Martlet was started.',
    user: 'User', password: 'Password', logIn: 'Log in', loggingIn: 'Logging in…', logOut: 'Log out',
    badPassword: 'Wrong user or password.', tooManyTries: 'Too many wrong attempts. Wait a little and try again.',
    unreachable: 'The server cannot be reached. Is it running?', loginFailed: (why) => `Login failed: ${why}`,
    sessionEnded: 'Your login has expired. Please log in again.',
    conversations: 'Conversations', messages: 'Messages', back: 'Back to the conversations',
    startHint: 'User id to chat with', start: 'Chat', writeHint: 'Write a message', send: 'Send',
    noConversations: 'No conversations yet. Enter a user id above to begin one.',
    nothingOpen: 'Choose a conversation, or begin a new one.',
    badUser: 'That is not a user id.', yourself: 'That is you.', noSuchUser: (id) => `There is no user “${id}”.`,
    connecting: 'Connecting…', reconnecting: 'Connection lost. Reconnecting…',
    displaced: 'You logged in with another window or device.', useHere: 'Use here',
    online: 'online', offline: 'offline', typing: 'typing…', you: 'You: ',
    today: 'Today', yesterday: 'Yesterday', newest: '↓ New messages', unreadLine: 'New messages',
    older: 'Loading older messages…', beginning: 'This is the beginning of the conversation.',
    queued: 'Sending…', sent: 'Sending…', accepted: 'Sent', delivered: 'Delivered', read: 'Read', failed: 'Not sent',
    tryAgain: 'Try again', discard: 'Discard',
    recalled: 'Message recalled', lost: 'This message could not be stored', unsupported: 'Unsupported message',
    message_too_large: 'This message is too long.', too_many_pending: 'Too many messages are waiting to be sent.',
    unsaved: 'This browser does not keep messages: what is still sending is lost on reload.',
    unreadCount: (n) => `${n} unread`,
  },
  zh: {
    loginHint: '使用演示用户登录。用户名和密码显示在启动 Martlet 的终端里。',
    user: '用户', password: '密码', logIn: '登录', loggingIn: '正在登录…', logOut: '退出',
    badPassword: '用户名或密码错误。', tooManyTries: '错误次数过多，请稍后再试。',
    unreachable: '无法连接服务器，它在运行吗？', loginFailed: (why) => `登录失败：${why}`,
    sessionEnded: '登录已过期，请重新登录。',
    conversations: '会话', messages: '消息', back: '返回会话列表',
    startHint: '输入对方的用户 ID', start: '聊天', writeHint: '输入消息', send: '发送',
    noConversations: '还没有会话。在上面输入用户 ID 开始聊天。',
    nothingOpen: '选择一个会话，或开始新的会话。',
    badUser: '这不是有效的用户 ID。', yourself: '这是你自己。', noSuchUser: (id) => `没有用户“${id}”。`,
    connecting: '正在连接…', reconnecting: '连接已断开，正在重连…',
    displaced: '你已在其他窗口或设备登录。', useHere: '在此使用',
    online: '在线', offline: '离线', typing: '正在输入…', you: '我：',
    today: '今天', yesterday: '昨天', newest: '↓ 新消息', unreadLine: '新消息',
    older: '正在加载更早的消息…', beginning: '会话从这里开始。',
    queued: '发送中…', sent: '发送中…', accepted: '已发送', delivered: '已送达', read: '已读', failed: '未发送',
    tryAgain: '重试', discard: '放弃',
    recalled: '消息已撤回', lost: '这条消息未能保存', unsupported: '不支持的消息',
    message_too_large: '消息太长。', too_many_pending: '等待发送的消息太多。',
    unsaved: '浏览器无法保存消息：刷新后未发出的消息会丢失。',
    unreadCount: (n) => `${n} 条未读`,
  },
};

export const language = (navigator.language || 'en').toLowerCase().startsWith('zh') ? 'zh' : 'en';

/** The text of a name, with a value where it takes one. */
export function t(name, value) {
  const text = TEXTS[language][name];
  return typeof text === 'function' ? text(value) : text;
}

/** Fills in the fixed texts of the page. */
export function translate() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll('[data-text]')) node.textContent = t(node.dataset.text);
  for (const node of document.querySelectorAll('[data-placeholder]')) node.placeholder = t(node.dataset.placeholder);
  for (const node of document.querySelectorAll('[data-label]')) node.setAttribute('aria-label', t(node.dataset.label));
}

const clock = new Intl.DateTimeFormat(language, { hour: '2-digit', minute: '2-digit' });
const date = new Intl.DateTimeFormat(language, { day: 'numeric', month: 'long', year: 'numeric' });
const shortDate = new Intl.DateTimeFormat(language, { day: 'numeric', month: 'short' });
const dayOf = (ms) => new Date(ms).toDateString();
const DAY_MS = 24 * 3600 * 1000;

export const timeOf = (ms) => clock.format(ms);

export function dayName(ms) {
  if (dayOf(ms) === dayOf(Date.now())) return t('today');
  return dayOf(ms) === dayOf(Date.now() - DAY_MS) ? t('yesterday') : date.format(ms);
}

export const timeInList = (ms) => (dayOf(ms) === dayOf(Date.now()) ? clock.format(ms) : shortDate.format(ms));
