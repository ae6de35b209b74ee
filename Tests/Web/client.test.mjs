import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  FrameType as T, Method, Outcome, Schemas, Service, decode, encode, encodeFrame,
} from '../../Sources/Clients/Web/sdk/wire.js';
import { Conversation, readRow } from '../../Sources/Clients/Web/sdk/conversation.js';
import { World, view } from './world.mjs';

const AB = 'p:alice|bob';

function pair(seed) {
  const world = new World(seed);
  const alice = world.client('alice');
  const bob = world.client('bob');
  world.run(100);
  return { world, alice, bob };
}

const acksOf = (world, user) => world.server.log
  .filter((frame) => frame.type === T.PUSH_ACK && frame.user === user).map((frame) => frame.id);

test('a message goes from one to the other and its marks come back', () => {
  const { world, alice, bob } = pair();
  const id = alice.startWith('bob');
  alice.open(id, true);
  alice.send(id, 'hello');
  assert.deepEqual(view(alice, AB), ['hello [sent]']);
  world.run(50);
  assert.deepEqual(view(alice, AB), ['hello']);
  assert.deepEqual(view(bob, AB), ['hello']);
  const mine = alice.chat.conversations.get(AB);
  const theirs = bob.chat.conversations.get(AB);
  assert.equal(theirs.unread, 1);
  assert.equal(mine.markOf(mine.rows[0]), 'accepted');
  world.run(1500);
  assert.equal(mine.markOf(mine.rows[0]), 'delivered');
  bob.open(AB, true);
  world.run(500);
  assert.equal(mine.markOf(mine.rows[0]), 'read');
  assert.equal(theirs.unread, 0);
  assert.equal(alice.chat.people.online.get('bob'), true);
});

test('messages typed during an outage, and over a reload, arrive once and in order', () => {
  const { world, alice, bob } = pair();
  alice.startWith('bob');
  alice.send(AB, 'one');
  world.run(50);
  world.crash();
  world.run(10);
  alice.send(AB, 'two');
  alice.send(AB, 'three');
  world.run(2000);
  assert.deepEqual(view(alice, AB), ['one', 'two [queued]', 'three [queued]']);
  alice.disconnect();
  const reloaded = world.client('alice');
  world.up = true;
  reloaded.open(AB, true);
  world.run(10_000);
  assert.deepEqual(world.server.texts(AB), ['one', 'two', 'three']);
  assert.deepEqual(view(bob, AB), ['one', 'two', 'three']);
  assert.deepEqual(view(reloaded, AB), ['one', 'two', 'three']);
  assert.equal([...world.storages.get('alice').map.keys()].filter((key) => key.includes(':out:')).length, 0);
});

test('a lost answer is cured by the same id: stored once, shown once', () => {
  const { world, alice, bob } = pair();
  alice.startWith('bob');
  let swallowed = 0;
  world.server.hooks.response = (frame, session) => {
    if (frame.svid !== Service.IM || swallowed > 0) return false;
    swallowed += 1;
    session.leave();
    session.close();
    return true;
  };
  alice.open(AB, true);
  alice.send(AB, 'once');
  world.run(10_000);
  assert.equal(swallowed, 1);
  assert.deepEqual(world.server.texts(AB), ['once']);
  assert.deepEqual(view(alice, AB), ['once']);
  assert.deepEqual(view(bob, AB), ['once']);
});

test('what stands behind a broken send is sent again in order with the next turn', () => {
  const { world, alice, bob } = pair();
  alice.startWith('bob');
  let broken = 0;
  world.server.hooks.sendResult = () => {
    broken += 1;
    return broken === 1 ? { outcome: Outcome.UNKNOWN, failure: { code: 500, retryable: true } } : null;
  };
  for (const text of ['a', 'b', 'c', 'd']) alice.send(AB, text);
  world.run(5000);
  assert.deepEqual(view(bob, AB), ['a', 'b', 'c', 'd']);
  assert.deepEqual(view(alice, AB), ['a', 'b', 'c', 'd']);
  const turns = world.server.log.filter((frame) => frame.type === T.ORDERED_REQUEST).map((frame) => frame.turn);
  assert.deepEqual(turns, [0, 0, 0, 0, 1]);
});

test('an unknown outcome that was stored after all is not doubled', () => {
  const { world, alice, bob } = pair();
  alice.startWith('bob');
  let first = true;
  world.server.hooks.sendResult = () => {
    if (!first) return null;
    first = false;
    return { outcome: Outcome.UNKNOWN, failure: { code: 500, retryable: true }, stores: true };
  };
  alice.send(AB, 'x');
  alice.send(AB, 'y');
  world.run(5000);
  assert.deepEqual(world.server.texts(AB), ['x', 'y']);
  assert.deepEqual(view(alice, AB), ['x', 'y']);
  assert.deepEqual(view(bob, AB), ['x', 'y']);
});

test('a refusal for good is shown and can be sent again or given up', () => {
  const { world, alice } = pair();
  alice.startWith('bob');
  let refuse = true;
  world.server.hooks.sendResult = () => (refuse
    ? { outcome: Outcome.REFUSED, failure: { code: 409, reason: 'bad_content', retryable: false } } : null);
  const id = alice.send(AB, 'no');
  alice.send(AB, 'no2');
  world.run(100);
  assert.deepEqual(view(alice, AB), ['no [failed]', 'no2 [failed]']);
  // It is kept over a reload, with its reason.
  assert.match(world.storages.get('alice').getItem(`martlet:demo/alice:out:${id}`), /bad_content/);
  refuse = false;
  alice.retry(id);
  alice.discard(alice.chat.outbox.pending(AB)[0].id);
  world.run(100);
  assert.deepEqual(world.server.texts(AB), ['no']);
  assert.deepEqual(view(alice, AB), ['no']);
});

test('a dropped push is fetched when the next one shows the hole, and order holds', () => {
  const { world, alice, bob } = pair();
  alice.startWith('bob');
  alice.send(AB, '1');
  world.run(50);
  world.server.hooks.push = (row) => row.seq === 2;
  alice.send(AB, '2');
  alice.send(AB, '3');
  world.run(200);
  assert.deepEqual(view(bob, AB), ['1']);
  const asked = () => world.server.log
    .filter((frame) => frame.svid === Service.HISTORY && frame.method === Method.HISTORY);
  assert.equal(asked().length, 0, 'it waits a moment first');
  world.run(1000);
  assert.deepEqual(view(bob, AB), ['1', '2', '3']);
  assert.equal(asked().length, 1);
});

test('a hole seen over one connection is repaired over the next, though the sync there names nothing', () => {
  const { world, bob } = pair();
  world.server.post('alice', AB, '1');
  world.run(50);
  world.server.hooks.push = (row) => row.seq === 2;
  world.server.post('alice', AB, '2');
  world.server.post('alice', AB, '3');
  const needed = { type: T.SYNC_NEEDED, body: encode(Schemas.SyncNeeded, {}) };
  for (const session of world.server.online('bob')) session.frame(needed);
  world.run(100);
  assert.deepEqual(view(bob, AB), ['1']);
  world.crash();
  world.run(100);
  world.up = true;
  world.run(5000);
  assert.deepEqual(view(bob, AB), ['1', '2', '3']);
});

test('SYNC_NEEDED finds what no push brought, without another message', () => {
  const { world, bob } = pair();
  world.server.post('alice', AB, 'seen');
  world.run(50);
  world.server.hooks.push = () => true;
  world.server.post('alice', AB, 'missed');
  const needed = { type: T.SYNC_NEEDED, body: encode(Schemas.SyncNeeded, {}) };
  for (const session of world.server.online('bob')) session.frame(needed);
  world.run(2000);
  assert.deepEqual(view(bob, AB), ['seen', 'missed']);
  assert.equal(bob.chat.conversations.get(AB).unread, 2);
});

for (const comesFirst of [true, false]) {
  const when = comesFirst ? 'before a page fails' : 'before the page that failed is asked for again';
  test(`SYNC_NEEDED ${when} asks for one more sync: it may concern a page that has come`, () => {
    const { world } = pair();
    const [session] = world.server.online('bob');
    const needed = () => session.frame({ type: T.SYNC_NEEDED, body: encode(Schemas.SyncNeeded, {}) });
    const bytes = (text) => new TextEncoder().encode(text);
    const tokens = [];
    world.server.hooks.request = (frame, asker) => {
      if (asker !== session || frame.svid !== Service.USER || frame.method !== Method.SYNC) return false;
      tokens.push(new TextDecoder().decode(decode(Schemas.SyncRequest, frame.body).token));
      if (tokens.length === 2) {
        if (comesFirst) needed();
        session.fail(frame, { code: 501, reason: 'store_unavailable', retryable: true });
        if (!comesFirst) needed();
        return true;
      }
      const answers = [['mid', true], null, ['end', false], ['later', false]];
      const [token, more] = answers[tokens.length - 1];
      session.answer(frame, Schemas.SyncResponse, { token: bytes(token), more, entries: [] });
      return true;
    };
    needed();
    world.run(20_000);
    assert.deepEqual(tokens.slice(1), ['mid', 'mid', 'end']);
  });
}

test('a sync token that is refused for good is forgotten: it is another deployment\'s', () => {
  const { world } = pair();
  const [session] = world.server.online('bob');
  const lengths = [];
  world.server.hooks.request = (frame, asker) => {
    if (asker !== session || frame.svid !== Service.USER || frame.method !== Method.SYNC) return false;
    lengths.push(decode(Schemas.SyncRequest, frame.body).token.length);
    if (lengths.length > 1) return false;
    session.fail(frame, { code: 300, reason: 'malformed_request', retryable: false });
    return true;
  };
  session.frame({ type: T.SYNC_NEEDED, body: encode(Schemas.SyncNeeded, {}) });
  world.run(20_000);
  assert.equal(lengths.length, 2);
  assert.ok(lengths[0] > 0 && lengths[1] === 0);
});

test('pushes are acknowledged cumulatively, at the latest after the named time and count', () => {
  const { world } = pair();
  const acks = () => acksOf(world, 'bob');
  for (let index = 0; index < 5; index++) world.server.post('alice', AB, `m${index}`);
  world.run(150);
  assert.deepEqual(acks(), []);
  world.run(100);
  assert.deepEqual(acks(), [5]);
  for (let index = 0; index < 32; index++) world.server.post('alice', AB, `n${index}`);
  world.run(10);
  assert.deepEqual(acks(), [5, 37]);
});

test('repeated pushes are acknowledged again and shown once; a hole in the ids is not acknowledged', () => {
  const { world, bob } = pair();
  const [session] = world.server.online('bob');
  const row = world.server.post('alice', AB, 'm');
  world.run(300);
  session.frame({ type: T.PUSH, id: 1, body: encode(Schemas.PushedMessage, row) });
  world.run(300);
  const item = { clientMsgId: new Uint8Array(16), kind: 1, content: new Uint8Array([65]) };
  const next = world.server.store('alice', 'd', AB, item).row;
  session.frame({ type: T.PUSH, id: 3, body: encode(Schemas.PushedMessage, next) });
  world.run(300);
  assert.deepEqual(acksOf(world, 'bob'), [1, 1, 1]);
  assert.deepEqual(view(bob, AB), ['m', 'A']);
});

test('heartbeats: a quiet connection is kept, a dead one is left and opened anew', () => {
  const { world, bob } = pair();
  world.run(35_000);
  assert.equal(world.server.log.filter((frame) => frame.type === T.PING).length, 2);
  assert.equal(bob.chat.link.phase, 'ready');
  const [session] = world.server.online('bob');
  session.receive = () => {};
  world.run(95_000);
  assert.equal(bob.chat.link.phase, 'ready');
  assert.notEqual(world.server.online('bob')[0], session);
});

test('reconnecting backs off with jitter and stops at five seconds', () => {
  const { world, bob } = pair();
  const tries = [];
  bob.addEventListener('status', (event) => { if (event.detail.phase === 'connecting') tries.push(world.time); });
  world.crash();
  world.run(60_000);
  const waits = tries.slice(1).map((time, index) => time - tries[index]);
  assert.ok(waits.length > 10 && waits.length < 30, `${waits.length} tries`);
  assert.ok(Math.max(...waits) <= 5010);
  assert.ok(new Set(waits.slice(6).map(Math.round)).size > 3, 'jitter');
  world.up = true;
  world.run(6000);
  assert.equal(bob.chat.link.phase, 'ready');
});

test('a newer login of the same user ends the older for good', () => {
  const { world, bob } = pair();
  const second = world.client('bob');
  world.run(10_000);
  assert.equal(bob.endedWith.reason, 'displaced_by_newer_login');
  assert.equal(bob.chat.link.phase, 'ended');
  assert.equal(second.chat.link.phase, 'ready');
});

test('a token that is refused ends the client instead of knocking for ever', () => {
  const world = new World();
  const mallory = world.client('mallory');
  world.run(60_000);
  assert.equal(mallory.endedWith.reason, 'token_bad_signature');
  assert.equal(world.server.log.filter((frame) => frame.type === T.HELLO).length, 1);
});

test('scrolling back through a long conversation finds every message once', () => {
  const world = new World();
  for (let index = 1; index <= 230; index++) world.server.post('alice', AB, `m${index}`);
  const bob = world.client('bob');
  world.run(100);
  assert.equal(bob.chat.conversations.get(AB).unread, 230);
  bob.open(AB, true);
  world.run(100);
  assert.equal(bob.chat.conversations.get(AB).rows.length, 50);
  for (let pages = 0; pages < 10; pages++) {
    bob.loadOlder();
    world.run(50);
  }
  assert.deepEqual(view(bob, AB), Array.from({ length: 230 }, (_, index) => `m${index + 1}`));
  assert.ok(bob.chat.conversations.get(AB).reachedStart);
  assert.equal(bob.chat.conversations.get(AB).unread, 0);
});

test('after a long absence the view starts anew instead of fetching thousands', () => {
  const { world, bob } = pair();
  world.server.post('alice', AB, 'old');
  world.run(50);
  bob.open(AB, true);
  world.run(500);
  world.crash();
  world.run(10);
  for (let index = 1; index <= 1000; index++) world.server.post('alice', AB, `n${index}`);
  world.up = true;
  world.run(10_000);
  const texts = view(bob, AB);
  assert.equal(texts.at(-1), 'n1000');
  assert.ok(texts.length < 200, `${texts.length} rows were fetched`);
  assert.equal(bob.chat.conversations.get(AB).hasHole, false);
});

test('a second device sees what the first sent, and reading on one clears the other', () => {
  const { world, alice } = pair();
  world.storages.delete('bob');
  const phone = world.client('bob');
  phone.chat.link.options.platform = 'phone';
  world.run(100);
  assert.equal(world.server.online('bob').length, 2);
  alice.startWith('bob');
  alice.send(AB, 'hi');
  world.run(100);
  assert.equal(phone.chat.conversations.get(AB).unread, 1);
  phone.send(AB, 'hello back');
  world.run(100);
  assert.deepEqual(view(phone, AB), ['hi', 'hello back']);
  assert.equal(phone.chat.conversations.get(AB).unread, 0, 'who sends has read');
});

test('ids follow the server\'s clock, also for what was written before it was known', () => {
  const world = new World();
  world.serverSkew = 3 * 3600_000;
  const alice = world.client('alice');
  alice.startWith('bob');
  alice.send(AB, 'early');
  world.run(500);
  assert.deepEqual(world.server.texts(AB), ['early']);
  const message = decode(Schemas.ChatMessage, world.server.conversations.get(AB).rows[0].message);
  const ms = message.clientMsgId.slice(0, 6).reduce((sum, byte) => sum * 256 + byte, 0);
  assert.ok(Math.abs(ms - (world.time + world.serverSkew)) < 60_000);
});

test('frames that cannot be read close the connection, and the client comes back', () => {
  const { world, bob } = pair();
  const [session] = world.server.online('bob');
  session.send(new Uint8Array([99, 1, 2]));
  world.run(3000);
  assert.equal(bob.chat.link.phase, 'ready');
  const body = encode(Schemas.PushedMessage, { conversation: AB }).slice(0, 3);
  world.server.online('bob')[0].send(encodeFrame({ type: T.PUSH, id: 1, body }));
  world.run(3000);
  assert.equal(bob.chat.link.phase, 'ready');
});

test('typing and presence', () => {
  const { world, alice, bob } = pair();
  alice.startWith('bob');
  alice.send(AB, 'hi');
  world.run(100);
  alice.open(AB, true);
  bob.open(AB, true);
  alice.typing();
  world.run(50);
  assert.equal(bob.chat.people.isTyping(AB, world.time), true);
  alice.send(AB, 'done');
  world.run(50);
  assert.equal(bob.chat.people.isTyping(AB, world.time), false);
  bob.stop();
  world.run(50);
  assert.equal(alice.chat.people.online.get('bob'), false);
});

test('limits: contents and waiting messages', () => {
  const { world, alice } = pair();
  world.crash();
  world.run(10);
  assert.throws(() => alice.send(AB, 'x'.repeat(32 * 1024 + 1)), /message_too_large/);
  for (let count = 0; count < 1000; count++) alice.send(AB, String(count));
  assert.throws(() => alice.send(AB, 'one more'), /too_many_pending/);
  world.up = true;
  world.run(20_000);
  assert.deepEqual(world.server.texts(AB), Array.from({ length: 1000 }, (_, index) => String(index)));
});

test('rows in any order, with duplicates, come out dense', () => {
  const message = encode(Schemas.ChatMessage, { sender: 'alice', kind: 1 });
  const row = (seq) => readRow({ seq, n: seq, timeMs: seq, message });
  const conversation = new Conversation(AB, 'bob', 'alice');
  conversation.end = 0;
  const shown = [];
  for (const seq of [2, 1, 1, 5, 3, 2, 5, 4, 6]) shown.push(...conversation.receive(row(seq)).map((r) => r.seq));
  assert.deepEqual(shown, [1, 2, 3, 4, 5, 6]);
  assert.equal(conversation.unread, 6);
});

test('a recalled message is hidden and no longer counts', () => {
  const { world, alice, bob } = pair();
  alice.startWith('bob');
  alice.send(AB, 'oops');
  world.run(100);
  alice.step((chat, now) => chat.send(AB, '', now, 3, 1));
  world.run(100);
  assert.deepEqual(view(bob, AB)[0], '(recalled)');
  assert.equal(bob.chat.conversations.get(AB).unread, 0);
});

test('history shows a recalled message as its empty place', () => {
  const message = encode(Schemas.ChatMessage, { sender: 'alice', kind: 3, control: true, targetSeq: 4 });
  const row = readRow({ seq: 4, n: 4, timeMs: 1, message });
  assert.deepEqual([row.recalled, row.control], [true, false]);
  const conversation = new Conversation(AB, 'bob', 'alice');
  conversation.receive(row);
  assert.equal(conversation.unread, 0);
});

test('a message that could not be stored keeps its place, is shown as such and does not count', () => {
  const conversation = new Conversation(AB, 'bob', 'alice');
  conversation.end = 0;
  conversation.receive(readRow({ seq: 1, n: 0, timeMs: 1, message: encode(Schemas.ChatMessage, { control: true }) }));
  conversation.receive(readRow({ seq: 2, n: 0, timeMs: 1, message: new Uint8Array([0xff]) }));
  assert.deepEqual(conversation.rows.map((row) => [row.lost, row.control]), [[true, false], [true, false]]);
  assert.equal(conversation.unread, 0);
});

test('random faults, many seeds: nothing lost, nothing doubled, order kept', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const { world, alice, bob } = pair(seed);
    alice.startWith('bob');
    const chance = (p) => world.random() < p;
    world.server.hooks.push = () => chance(0.2);
    world.server.hooks.response = () => chance(0.1);
    world.server.hooks.sendResult = () => (chance(0.15)
      ? { outcome: Outcome.UNKNOWN, failure: { code: 500, retryable: true }, stores: chance(0.5) } : null);
    const wanted = [];
    for (let count = 0; count < 60; count++) {
      alice.send(AB, `s${count}`);
      wanted.push(`s${count}`);
      world.run(Math.floor(world.random() * 400));
      if (chance(0.05)) world.server.online('alice').forEach((session) => { session.leave(); session.close(); });
      if (chance(0.03)) {
        world.crash();
        world.run(500);
        world.up = true;
      }
    }
    Object.assign(world.server.hooks, { push: null, response: null, sendResult: null });
    world.run(30_000);
    alice.foreground();
    bob.foreground();
    world.run(30_000);
    bob.open(AB, true);
    alice.open(AB, true);
    world.run(5000);
    for (let pages = 0; pages < 4; pages++) {
      bob.loadOlder();
      alice.loadOlder();
      world.run(1000);
    }
    assert.deepEqual(world.server.texts(AB), wanted, `stored, seed ${seed}`);
    assert.deepEqual(view(bob, AB), wanted, `received, seed ${seed}`);
    assert.deepEqual(view(alice, AB), wanted, `sender's view, seed ${seed}`);
  }
});
