// The page with a server in memory behind it, to look at and to try the browser test on:
//   node Tests/Web/dev-server.mjs [port]
// Serves on `port` (default 8780) and takes POST /stop and POST /start on the port above it.
// Demo users alice, bob, carol; the password is "secret-" and the name.

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FakeServer } from './fake-server.mjs';

const WEB = fileURLToPath(new URL('../../Sources/Clients/Web/', import.meta.url));
const TYPES = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};
// The policy that the real server sends, so that what it forbids fails here too.
const POLICY = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; object-src 'none'; "
  + "base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

const port = Number(process.argv[2] ?? 8780);
const fake = new FakeServer(() => Date.now());
for (const [id, nickname] of [['alice', 'Alice'], ['bob', 'Bob'], ['carol', 'Carol']]) fake.addUser(id, nickname);
const sockets = new Set();

/** The server's side of one WebSocket (RFC 6455): whole binary messages up to 1 MiB, as browsers send them. */
function webSocket(socket) {
  let buffer = Buffer.alloc(0);
  const write = (opcode, bytes) => {
    const long = bytes.length > 125;
    const head = Buffer.alloc(long ? 4 : 2);
    head[0] = 0x80 | opcode;
    head[1] = long ? 126 : bytes.length;
    if (long) head.writeUInt16BE(bytes.length, 2);
    if (bytes.length < 65536) {
      socket.write(Buffer.concat([head, bytes]));
      return;
    }
    const longest = Buffer.alloc(10);
    longest[0] = 0x80 | opcode;
    longest[1] = 127;
    longest.writeBigUInt64BE(BigInt(bytes.length), 2);
    socket.write(Buffer.concat([longest, bytes]));
  };
  const side = fake.connect((bytes) => write(2, Buffer.from(bytes)), () => socket.end());
  socket.on('data', (data) => {
    buffer = Buffer.concat([buffer, data]);
    for (;;) {
      if (buffer.length < 2) return;
      let length = buffer[1] & 0x7f;
      let at = 2;
      if (length === 126) [length, at] = [buffer.length < 4 ? Infinity : buffer.readUInt16BE(2), 4];
      else if (length === 127) [length, at] = [buffer.length < 10 ? Infinity : Number(buffer.readBigUInt64BE(2)), 10];
      if (buffer.length < at + 4 + length) return;
      const mask = buffer.subarray(at, at + 4);
      const body = Buffer.from(buffer.subarray(at + 4, at + 4 + length).map((byte, index) => byte ^ mask[index % 4]));
      const opcode = buffer[0] & 15;
      buffer = buffer.subarray(at + 4 + length);
      if (opcode === 8) socket.end();
      else if (opcode === 9) write(10, body);
      else if (opcode === 2) side.receive(new Uint8Array(body));
    }
  });
  socket.on('close', () => side.closed());
  socket.on('error', () => side.closed());
}

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

const json = (response, status, value) => {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
};

async function logIn(request, response) {
  const { user, password } = JSON.parse(await body(request));
  if (!fake.users.has(user) || password !== `secret-${user}`) {
    json(response, 401, { code: 210, reason: 'bad_credentials', message: 'the name or the secret is wrong' });
    return;
  }
  json(response, 200, { token: user, app_id: 'demo', user_id: user, ws_url: `ws://${request.headers.host}/ws` });
}

async function answer(request, response) {
  const path = new URL(request.url, 'http://x').pathname;
  if (path === '/health') json(response, 200, { status: 'ok' });
  else if (path === '/demo/login') await logIn(request, response);
  else {
    const file = normalize(path === '/' ? 'index.html' : path.slice(1));
    try {
      const bytes = await readFile(join(WEB, file));
      response.writeHead(200, { 'content-type': TYPES[extname(file)], 'content-security-policy': POLICY });
      response.end(bytes);
    } catch {
      json(response, 404, { code: 310, reason: 'not_found', message: path });
    }
  }
}

function start() {
  const server = createServer((request, response) => { answer(request, response); });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.on('upgrade', (request, socket) => {
    const key = createHash('sha1').update(request.headers['sec-websocket-key'] + GUID).digest('base64');
    const head = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade'];
    socket.write(`${[...head, `Sec-WebSocket-Accept: ${key}`].join('\r\n')}\r\n\r\n`);
    webSocket(socket);
  });
  server.listen(port, '127.0.0.1');
  return server;
}

let server = start();
createServer((request, response) => {
  if (request.url === '/stop' && server) {
    server.close();
    for (const socket of sockets) socket.destroy();
    server = null;
  } else if (request.url === '/start' && !server) server = start();
  response.end('ok\n');
}).listen(port + 1, '127.0.0.1', () => console.log(`http://127.0.0.1:${port}`));
