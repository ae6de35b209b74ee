"""The Martlet protocol's bytes, written from Protocols/README.md alone: standard library only.

Shares no line with the other clients, so that a misunderstanding of the document shows as a difference. Numbers in
comments are that document's sections. `martlet_client.py` is the client on top of it.
"""

import base64
import hashlib
import hmac
import json
import os
import socket
import ssl
import struct
import time

# ---- 3. frames ----

(HELLO, WELCOME, AUTHENTICATE, AUTHENTICATED, PING, PONG, REQUEST, ORDERED_REQUEST, RESPONSE, FAILURE, PUSH, PUSH_ACK,
 SEQ_NOTICE, KICK, REDIRECT, SYNC_NEEDED, ERROR, EVENT, BYE) = range(1, 20)
IM, USER, ONLINE, HISTORY = 1, 4, 5, 6
UNKNOWN, ACCEPTED, REFUSED = 0, 1, 2
TEXT, CUSTOM, RECALL = 1, 2, 3


class WireError(Exception):
    """Bytes that are not what the protocol says."""


class Refused(Exception):
    """The server refused something: `failure` has code, reason, message, retryable."""

    def __init__(self, failure):
        super().__init__(f"{failure['code']} {failure['reason']}: {failure['message']}")
        self.failure = failure


class Closed(Exception):
    """The connection has ended; `failure` says why when the server did."""

    def __init__(self, failure=None):
        super().__init__(failure["reason"] if failure else "connection lost")
        self.failure = failure


# ---- protobuf ----

def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data, at):
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise WireError("a varint that does not end")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def number(field, value):
    return varint(field << 3) + varint(int(value)) if value else b""


def blob(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value if value else b""


def item(field, value):
    """A nested message, also an empty one."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def fields(data):
    """{field number: [values]} of a message; unknown wire types are an error, unknown fields are simply there."""
    at, found = 0, {}
    while at < len(data):
        key, at = read_varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = read_varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at:at + size], at + size
        elif kind == 2:
            size, at = read_varint(data, at)
            value, at = data[at:at + size], at + size
        else:
            raise WireError(f"wire type {kind}")
        if at > len(data):
            raise WireError("a field that does not end")
        found.setdefault(key >> 3, []).append(value)
    return found


# A shape is {field number: (name, kind)}; kind: int, bool, str, bytes, a shape, or [kind] for repeated.
FAILURE_SHAPE = {1: ("code", int), 2: ("reason", str), 3: ("message", str), 4: ("retryable", bool),
                 5: ("retry_after_ms", int)}
PUSHED = {1: ("conversation", str), 2: ("seq", int), 3: ("n", int), 4: ("time_ms", int), 5: ("message", bytes)}
CHAT = {1: ("sender", str), 2: ("device", str), 3: ("client_msg_id", bytes), 4: ("kind", int), 5: ("content", bytes),
        6: ("sent_ms", int), 7: ("control", bool), 8: ("target_seq", int), 9: ("svid", int)}
WELCOME_SHAPE = {1: ("version", int), 3: ("server_time_ms", int), 4: ("heartbeat_ms", int), 5: ("max_frame_bytes", int),
                 6: ("push_ack_every", int), 7: ("push_ack_ms", int)}
AUTHENTICATED_SHAPE = {1: ("app_id", str), 2: ("user_id", str), 3: ("session_id", str), 4: ("server_time_ms", int)}
STORED = {1: ("conversation", str), 2: ("client_msg_id", bytes), 3: ("seq", int), 4: ("n", int), 5: ("time_ms", int)}
SEND_RESULT = {1: ("outcome", int), 2: ("failure", FAILURE_SHAPE), 3: ("sent_ms", int)}
ENTRY = {1: ("conversation", str), 2: ("version", int), 3: ("joined_seq", int), 4: ("left_seq", int),
         5: ("cleared_seq", int), 6: ("read_seq", int), 7: ("pinned", bool), 8: ("muted", bool), 9: ("draft", str),
         10: ("head_seq", int), 11: ("head_n", int), 12: ("head_time_ms", int), 13: ("unread", int),
         14: ("last", PUSHED), 15: ("peer", str), 16: ("peer_read_seq", int), 17: ("delivered_seq", int), 18: ("peer_delivered_seq", int)}
SYNCED = {1: ("token", bytes), 2: ("more", bool), 3: ("entries", [ENTRY])}
PAGE = {1: ("conversation", str), 2: ("messages", [PUSHED]), 3: ("head_seq", int), 4: ("first_visible_seq", int),
        5: ("failure", FAILURE_SHAPE)}
PRESENCE = {1: ("users", [{1: ("user_id", str), 2: ("state", int), 3: ("platforms", [str])}])}
PROFILE = {1: ("user_id", str), 2: ("nickname", str), 3: ("avatar_url", str), 4: ("exists", bool)}
PROFILES = {1: ("profiles", [PROFILE])}
STATE_RESULTS = {1: ("results", [{1: ("ok", bool), 2: ("failure", FAILURE_SHAPE), 3: ("version", int)}])}
EVENT_SHAPE = {1: ("svid", int), 2: ("name", str), 3: ("body", bytes)}
STATE_HINT = {1: ("conversation", str), 2: ("user_id", str), 3: ("read_seq", int), 4: ("delivered_seq", int),
              5: ("entry_changed", bool)}
PRESENCE_CHANGE = {1: ("user_id", str), 2: ("online", bool)}
KICK_SHAPE = {1: ("code", int), 2: ("reason", str), 3: ("message", str)}


def value_of(kind, raw):
    if isinstance(kind, dict):
        return parse(kind, raw)
    if kind is str:
        return raw.decode()
    return kind(raw)


def parse(shape, data):
    """A message as a dictionary, with proto3's defaults; a missing nested message is None."""
    found = fields(data)
    result = {}
    for field, (name, kind) in shape.items():
        values = found.get(field, [])
        if isinstance(kind, list):
            result[name] = [value_of(kind[0], raw) for raw in values]
        elif values:
            result[name] = value_of(kind, values[-1])
        else:
            result[name] = None if isinstance(kind, dict) else kind()
    return result


# ---- ids and tokens ----

def message_id(now_ms, counter):
    """9: UUIDv7 whose 12 bits behind the version are a counter."""
    tail = bytearray(os.urandom(8))
    tail[0] = 0x80 | tail[0] & 0x3F
    return int(now_ms).to_bytes(6, "big") + struct.pack(">H", 0x7000 | counter & 0xFFF) + bytes(tail)


def pair(one, other):
    """1: the pair of two users; byte order decides who is first."""
    first, second = sorted((one, other), key=str.encode)
    return f"p:{first}|{second}"


def make_token(app, key_id, secret, user, ttl_s=3600, **claims):
    """5: what an app's own server does."""
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")
    now = int(time.time())
    body = {"app": app, "sub": user, "iat": now, "exp": now + ttl_s, **claims}
    signed = part({"alg": "HS256", "typ": "JWT", "kid": key_id}) + b"." + part(body)
    mac = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


# ---- 2. transports: `write(payload)`, and `read(timeout)` giving a payload or None ----

class Stream:
    """Whole pieces out of a socket: `cut` takes one off the front of what has arrived, or None."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""

    def read(self, timeout):
        end = time.monotonic() + timeout
        while True:
            payload = self.cut()
            if payload is not None:
                return payload
            left = end - time.monotonic()
            if left <= 0:
                return None
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except (socket.timeout, ssl.SSLWantReadError):
                return None
            except OSError:
                raise Closed from None
            if not data:
                raise Closed
            self.buffer += data

    def put(self, data):
        self.sock.settimeout(10)
        try:
            self.sock.sendall(data)
        except OSError:
            raise Closed from None

    def close(self):
        self.sock.close()


class Tcp(Stream):
    def write(self, payload):
        self.put(varint(len(payload)) + payload)

    def cut(self):
        length = 0
        for index in range(4):
            if index >= len(self.buffer):
                return None
            byte = self.buffer[index]
            length |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                end = index + 1 + length
                if len(self.buffer) < end:
                    return None
                payload, self.buffer = self.buffer[index + 1:end], self.buffer[end:]
                return payload
        raise WireError("a length of more than four bytes")


class WebSocket(Stream):
    """RFC 6455, the client's side, as far as section 2 asks for it."""

    def __init__(self, sock, host):
        super().__init__(sock)
        self.parts = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.put(f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        while b"\r\n\r\n" not in self.buffer:
            data = sock.recv(4096)
            if not data:
                raise Closed
            self.buffer += data
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        if b" 101 " not in head.split(b"\r\n")[0] + b" " or accept not in head:
            raise WireError("the server does not speak WebSocket here")

    def frame(self, opcode, payload):
        mask = os.urandom(4)
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
        elif size < 65536:
            head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, size)
        self.put(head + mask + bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload)))

    def write(self, payload):
        self.frame(2, payload)

    def cut(self):
        while len(self.buffer) >= 2:
            size, at = self.buffer[1] & 0x7F, 2
            if size >= 126:
                at = 4 if size == 126 else 10
                if len(self.buffer) < at:
                    return None
                size = int.from_bytes(self.buffer[2:at], "big")
            if len(self.buffer) < at + size:
                return None
            first, body = self.buffer[0], self.buffer[at:at + size]
            self.buffer = self.buffer[at + size:]
            opcode = first & 15
            if opcode == 8:
                raise Closed
            if opcode == 9:
                self.frame(10, body)
            elif opcode in (0, 2):
                self.parts += body
                if first & 0x80:
                    whole, self.parts = self.parts, b""
                    return whole
            elif opcode == 1:
                raise WireError("a text message")
        return None
