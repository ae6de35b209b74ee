// Who the others are, whether they are there, and whether they are typing. Pure; all of it is best effort.

import { Method, Presence, Schemas, Service, decode, encode } from './wire.js';
import { pairId } from './ids.js';

const TYPING_SHOWN_MS = 6000;
const TYPING_EVERY_MS = 3000;
const MOST_WATCHED = 500;
const MOST_PROFILES = 100;

export class People {
  /** @param change called with the conversation that looks different now, or null for all */
  constructor(me, link, change) {
    this.me = me;
    this.link = link;
    this.change = change;
    this.profiles = new Map();
    this.online = new Map();
    this.typingUntil = new Map();
    this.typedAt = -Infinity;
    this.asked = new Set();
  }

  forgetSession() {
    this.online.clear();
    this.asked.clear();
  }

  name(userId) {
    return this.profiles.get(userId)?.nickname || userId;
  }

  /** @param knows tells whether there is such a conversation */
  event(event, knows, now) {
    if (event.name === 'presence') {
      const change = decode(Schemas.PresenceChange, event.body);
      this.online.set(change.userId, change.online);
      this.change(pairId(this.me, change.userId));
    } else if (event.name === 'typing') {
      const typing = decode(Schemas.TypingEvent, event.body);
      if (typing.userId === this.me || !knows(typing.conversation)) return;
      this.typingUntil.set(typing.conversation, now + TYPING_SHOWN_MS);
      this.change(typing.conversation);
    }
  }

  isTyping(conversation, now) {
    return (this.typingUntil.get(conversation) ?? 0) > now;
  }

  /** Their message is here, so they are not writing it any more. */
  stoppedTyping(conversation) {
    this.typingUntil.delete(conversation);
  }

  /** We are typing in a conversation. */
  typing(conversation, now) {
    if (!this.link.hasRoom || now - this.typedAt < TYPING_EVERY_MS) return;
    this.typedAt = now;
    const body = encode(Schemas.TypingRequest, { conversation });
    const ignored = () => {};
    this.link.request({ svid: Service.IM, method: Method.TYPING, body }, ignored, ignored, now);
  }

  /**
   * Wants to hear of these users' comings and goings; the list replaces the one before. Also with the same list: the
   * server's memory of it may have died with a service.
   */
  watch(userIds, now) {
    const watched = userIds.slice(0, MOST_WATCHED);
    if (!this.link.hasRoom || watched.length === 0) return;
    const call = {
      svid: Service.ONLINE, method: Method.SUBSCRIBE, body: encode(Schemas.PresenceRequest, { userIds: watched }),
    };
    const answered = (bytes, at) => {
      if (!this.presence(bytes)) this.lookUpPresence(watched, at);
    };
    this.link.request(call, answered, () => {}, now);
  }

  lookUpPresence(userIds, now) {
    if (!this.link.hasRoom) return;
    const body = encode(Schemas.PresenceRequest, { userIds });
    const ignored = () => {};
    this.link.request(
      { svid: Service.ONLINE, method: Method.LOOK_UP, body }, (bytes) => this.presence(bytes), ignored, now);
  }

  presence(bytes) {
    const { users } = decode(Schemas.PresenceResponse, bytes);
    for (const user of users) {
      if (user.state !== Presence.UNKNOWN) this.online.set(user.userId, user.state === Presence.ONLINE);
    }
    this.change(null);
    return users.length > 0;
  }

  want(userId, now) {
    if (userId && !this.profiles.has(userId) && !this.asked.has(userId)) this.lookUp([userId], () => {}, now);
  }

  /** Asks who they are. `done(profile)` for the first of them; undefined when the service could not be asked. */
  lookUp(userIds, done, now) {
    const wanted = userIds.slice(0, MOST_PROFILES);
    if (!this.link.hasRoom) {
      done(undefined);
      return;
    }
    for (const id of wanted) this.asked.add(id);
    const call = {
      svid: Service.USER, method: Method.PROFILES, body: encode(Schemas.ProfilesRequest, { userIds: wanted }),
    };
    const forget = () => { for (const id of wanted) this.asked.delete(id); };
    this.link.request(call, (bytes) => {
      forget();
      const { profiles } = decode(Schemas.ProfilesResponse, bytes);
      for (const profile of profiles) if (profile.exists) this.profiles.set(profile.userId, profile);
      this.change(null);
      done(profiles.find((profile) => profile.userId === wanted[0]) ?? { userId: wanted[0], exists: false });
    }, () => {
      forget();
      done(undefined);
    }, now);
  }

  deadline() {
    return Math.min(Infinity, ...this.typingUntil.values());
  }

  tick(now) {
    for (const [id, until] of this.typingUntil) {
      if (until > now) continue;
      this.typingUntil.delete(id);
      this.change(id);
    }
  }
}
