import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  FrameType as T, Schemas, WireError, decode, decodeFrame, encode, encodeFrame, utf8,
} from '../../Sources/Clients/Web/sdk/wire.js';
import { IdMaker, fromHex, idTime, isUserId, pairId, peerOf, toHex } from '../../Sources/Clients/Web/sdk/ids.js';

const hex = (bytes) => toHex(bytes);

test('frames have exactly the bytes of Protocols/README.md', () => {
  assert.equal(hex(encodeFrame({ type: T.PING })), '05');
  assert.equal(hex(encodeFrame({ type: T.PUSH_ACK, id: 0x01020304 })), '0c01020304');
  const request = { type: T.REQUEST, svid: 4, method: 1, id: 7, body: utf8('x') };
  assert.equal(hex(encodeFrame(request)), '07000400010000000778');
  assert.equal(
    hex(encodeFrame({ type: T.ORDERED_REQUEST, svid: 1, method: 1, id: 1, turn: 2, key: 'p:a|b', body: utf8('x') })),
    '0800010001000000010002' + '05' + hex(utf8('p:a|b')) + '78');
});

test('frames survive the way there and back', () => {
  const frames = [
    { type: T.HELLO, body: utf8('h') }, { type: T.PONG }, { type: T.BYE },
    { type: T.PUSH, id: 0xffffffff, body: utf8('p') },
    { type: T.RESPONSE, id: 3, body: new Uint8Array(0) },
    { type: T.REQUEST, svid: 65535, method: 2, id: 9, body: utf8('r') },
    { type: T.ORDERED_REQUEST, svid: 1, method: 1, id: 9, turn: 65535, key: 'p:ä|б', body: utf8('r') },
  ];
  for (const frame of frames) assert.deepEqual(decodeFrame(encodeFrame(frame)), frame);
});

test('bytes that are no frame are refused', () => {
  for (const bytes of ['', '00', '14', '0500', '0c0102', '0c0102030405', '0b0000', '08000100010000000100000561']) {
    assert.throws(() => decodeFrame(fromHex(bytes)), WireError, bytes);
  }
});

test('protobuf bytes are those of protoc', () => {
  // Made with protoc --encode=martlet.v1.ChatMessage and --encode=martlet.v1.StateChange.
  const message = {
    sender: 'alice', device: 'web-1', clientMsgId: new Uint8Array([1, 2, 3]), kind: 1, content: utf8('hé'),
    sentMs: 1_700_000_000_123, control: false, targetSeq: 0, svid: 0,
  };
  assert.equal(
    hex(encode(Schemas.ChatMessage, message)),
    '0a05616c69636512057765622d311a0301020320012a0368c3a930fbd095ffbc31');
  assert.deepEqual(decode(Schemas.ChatMessage, encode(Schemas.ChatMessage, message)), message);
  // A field that may be absent is there when it is false; one that may not be is left out.
  assert.equal(hex(encode(Schemas.StateChange, { conversation: 'c', muted: false, readSeq: 0 })), '0a01632800');
  assert.equal('pinned' in decode(Schemas.StateChange, fromHex('0a01632800')), false);
});

test('unknown fields are skipped, broken ones refused', () => {
  const withUnknown = '0a0163' + 'f80105' + 'fa0102aabb' + '1807' + 'fd0100000000' + 'f9010000000000000000';
  assert.deepEqual(
    decode(Schemas.StateHint, fromHex(withUnknown)),
    { conversation: 'c', userId: '', readSeq: 7, deliveredSeq: 0, entryChanged: false });
  for (const bytes of ['0a05', '08', '0bff', '0a02c328', '18ffffffffffffffffffff01']) {
    assert.throws(() => decode(Schemas.StateHint, fromHex(bytes)), WireError, bytes);
  }
});

test('big numbers keep every digit up to 2^53', () => {
  for (const seq of [0, 1, 127, 128, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1]) {
    assert.equal(decode(Schemas.PushedMessage, encode(Schemas.PushedMessage, { seq })).seq, seq);
  }
});

test('ids are version 7, carry the time and always grow', () => {
  const maker = new IdMaker((bytes) => bytes.fill(0xff));
  const ids = [1000, 1000, 1001, 900, 1001].map((ms) => maker.next(1_700_000_000_000 + ms));
  assert.deepEqual([...ids].sort(), ids);
  assert.equal(new Set(ids).size, ids.length);
  assert.equal(idTime(ids[0]), 1_700_000_001_000);
  for (const id of ids) assert.match(id, /^[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
  for (let count = 0; count < 5000; count++) maker.next(1_700_000_000_000);
  assert.ok(maker.next(0) > ids[4]);
});

test('names', () => {
  assert.equal(pairId('bob', 'alice'), 'p:alice|bob');
  // Byte order: U+FF21 comes before U+1F600, although its UTF-16 units come behind.
  assert.equal(pairId('\u{1f600}', '\uff21'), 'p:\uff21|\u{1f600}');
  assert.equal(peerOf('p:alice|bob', 'bob'), 'alice');
  assert.equal(peerOf('p:alice|bob', 'carol'), null);
  for (const bad of ['', 'a b', 'a|b', 'x'.repeat(65), 'a\u0007']) assert.equal(isUserId(bad), false, bad);
  assert.ok(isUserId('用户-1'));
});
