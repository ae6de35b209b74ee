"""A Martlet client that follows Protocols/README.md, section 15, on top of martlet_wire: one thread, no dependencies.

    client = Client.connect("127.0.0.1", 7000, token, device_id="py-1")
    client.send("p:alice|bob", ["hello"])
    client.live(client.settled)             # survives lost connections
    print(client.shown)
"""

import random
import socket
import ssl
import struct
import time

from martlet_wire import *  # noqa: F401,F403  (one protocol in two files)

MOST_IN_FLIGHT = 48
REQUEST_S = 10
TERMINAL = {103} | set(range(200, 300))


def lost(message="connection lost"):
    return {"code": 500, "reason": "outcome_unknown", "message": message, "retryable": True, "retry_after_ms": 0}


class Conversation:
    """12: the dense prefix, what came too early, and what both sides have read."""

    def __init__(self):
        self.rows = {}
        self.end = None
        self.head = 0
        self.early = {}
        self.entry = None
        self.peer_read = self.peer_delivered = 0

    def take(self, row):
        """Returns the rows that can be shown now; none for a duplicate."""
        self.head = max(self.head, row["seq"])
        if self.end is None or row["seq"] > self.end:
            self.early.setdefault(row["seq"], row)
        return self.dense()

    def begin(self, end):
        """The first visible message is the one behind `end`, as only a sync can tell: what was pushed first may be the
        second one."""
        self.end = end
        self.early = {seq: row for seq, row in self.early.items() if seq > end}
        return self.dense()

    def dense(self):
        if self.end is None:
            return []
        shown = []
        while self.end + 1 in self.early:
            self.end += 1
            self.rows[self.end] = self.early.pop(self.end)
            shown.append(self.rows[self.end])
        return shown


class Lane:
    """8: what is to be sent in a conversation, in order, and the turn."""

    def __init__(self):
        self.items = []
        self.turn = 0
        self.frames = {}
        self.again_at = 0.0
        self.broken = False
        self.attempts = 0


class Client:
    """One session at a time. Everything happens inside `pump` and the calls that use it; nothing runs in between."""

    def __init__(self, dial, token, device_id, platform="python"):
        self.dial, self.token, self.device_id, self.platform = dial, token, device_id, platform
        self.user_id = self.session_id = None
        self.conversations, self.lanes, self.events, self.shown, self.failed = {}, {}, [], [], {}
        self.sync_token, self.sync_wanted, self.syncing = b"", False, False
        self.redelivered = self.reconnects = self.counter = 0
        self.link = None
        self.open()

    @classmethod
    def connect(cls, host, port, token, device_id, platform="python", websocket=False, tls=None):
        """`tls`: an ssl.SSLContext."""
        def dial():
            sock = socket.create_connection((host, port), timeout=10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls:
                sock = tls.wrap_socket(sock, server_hostname=host)
            return WebSocket(sock, f"{host}:{port}") if websocket else Tcp(sock)
        return cls(dial, token, device_id, platform)

    # ---- 4. a connection's life ----

    def open(self):
        """Connects and authenticates. Raises Refused for codes that will not go away, Closed otherwise."""
        try:
            self.link = self.dial()
        except OSError:
            raise Closed from None
        self.requests, self.next_id = {}, 1
        self.pushed, self.beyond, self.unacked, self.ack_at = 0, set(), 0, None
        self.heard = self.spoke = time.monotonic()
        self.welcome = None
        self.session_id = None
        self.frame(HELLO, number(1, 1) + blob(3, "martlet-python/1"))
        end = time.monotonic() + 10
        while self.session_id is None:
            payload = self.link.read(max(0, end - time.monotonic()))
            if payload is None:
                raise Closed(lost("no answer to the handshake"))
            self.take(payload)
        for lane in self.lanes.values():
            lane.turn, lane.frames, lane.broken, lane.again_at, lane.attempts = 0, {}, False, 0.0, 0
            for entry in lane.items:
                entry["sent"] = False
        self.sync_wanted = True

    def reopen(self, patience_s=60):
        """Rule 14: comes back with doubling, jittered waits."""
        end, wait = time.monotonic() + patience_s, 0.3
        self.fail_requests()
        while True:
            try:
                self.open()
                self.reconnects += 1
                return
            except Closed as closed:
                if closed.failure and closed.failure["code"] in TERMINAL:
                    raise Refused(closed.failure) from None
                if time.monotonic() > end:
                    raise
            time.sleep(wait / 2 + random.random() * wait / 2)
            wait = min(5.0, wait * 2)

    def drop(self):
        """Loses the connection without a word, as a dead network does."""
        self.link.close()

    def close(self):
        try:
            self.frame(BYE)
        except Closed:
            pass
        self.link.close()

    def frame(self, kind, body=b"", head=b""):
        self.spoke = time.monotonic()
        self.link.write(bytes([kind]) + head + body)

    # ---- 7. requests ----

    def request(self, svid, method, body, done, key=None, turn=0):
        """`done(body, failure)`, exactly once; one of the two is None."""
        number_, self.next_id = self.next_id, self.next_id % 0xFFFFFFFF + 1
        self.requests[number_] = (done, time.monotonic() + REQUEST_S)
        head = struct.pack(">HHI", svid, method, number_)
        if key is None:
            self.frame(REQUEST, body, head)
        else:
            name = key.encode()
            self.frame(ORDERED_REQUEST, body, head + struct.pack(">HB", turn, len(name)) + name)
        return number_

    def ask(self, svid, method, body):
        """A request and its answer. Raises Refused."""
        answer = []
        self.request(svid, method, body, lambda *result: answer.append(result))
        self.wait(lambda: answer, REQUEST_S + 5)
        got, failure = answer[0]
        if failure:
            raise Refused(failure)
        return got

    def outcomes(self, conversation, request, turn=0, timeout_s=15):
        """One SendRequest, sent once, and what becomes of each of its items: "accepted" or the reason. A FAILURE stands
        for all of them, in one."""
        answer = []
        self.request(IM, 1, request, lambda *got: answer.append(got), conversation, turn)
        self.wait(lambda: answer, timeout_s)
        body, failure = answer[0]
        if failure:
            return [failure["reason"]]
        results = [parse(SEND_RESULT, raw) for raw in fields(body)[1]]
        return ["accepted" if result["outcome"] == ACCEPTED else result["failure"]["reason"] for result in results]

    def fail_requests(self):
        waiting, self.requests = self.requests, {}
        for done, _ in waiting.values():
            done(None, lost())

    # ---- what comes in ----

    def take(self, payload):
        self.heard = time.monotonic()
        kind, rest = payload[0], payload[1:]
        if kind == WELCOME and self.welcome is None:
            self.welcome = parse(WELCOME_SHAPE, rest)
            self.offset_ms = self.welcome["server_time_ms"] - time.time() * 1000
            self.frame(AUTHENTICATE, blob(1, self.token) + blob(2, self.device_id) + blob(3, self.platform))
        elif kind == AUTHENTICATED:
            session = parse(AUTHENTICATED_SHAPE, rest)
            self.user_id, self.session_id = session["user_id"], session["session_id"]
        elif kind == PING:
            self.frame(PONG)
        elif kind in (RESPONSE, FAILURE):
            done, _ = self.requests.pop(int.from_bytes(rest[:4], "big"), (None, None))
            if done:
                done(*((rest[4:], None) if kind == RESPONSE else (None, parse(FAILURE_SHAPE, rest[4:]))))
        elif kind in (PUSH, SEQ_NOTICE):
            self.take_push(kind, int.from_bytes(rest[:4], "big"), rest[4:])
        elif kind == SYNC_NEEDED:
            self.sync_wanted = True
        elif kind == EVENT:
            self.take_event(parse(EVENT_SHAPE, rest))
        elif kind in (ERROR, KICK):
            raise Closed(parse(FAILURE_SHAPE if kind == ERROR else KICK_SHAPE, rest))
        elif kind == REDIRECT:
            raise Closed
        elif kind != PONG:
            raise WireError(f"frame type {kind}")

    def take_push(self, kind, push_id, body):
        """10, rule 11."""
        if push_id <= self.pushed or push_id in self.beyond:
            self.redelivered += 1
        else:
            self.beyond.add(push_id)
            if kind == PUSH:
                self.take_row(parse(PUSHED, body))
            else:
                for raw in fields(body).get(1, []):
                    self.take_place(parse(STORED, raw))
        while self.pushed + 1 in self.beyond:
            self.pushed += 1
            self.beyond.discard(self.pushed)
        self.unacked += 1
        if self.unacked >= self.welcome["push_ack_every"]:
            self.acknowledge()
        elif self.ack_at is None:
            self.ack_at = time.monotonic() + self.welcome["push_ack_ms"] / 1000

    def acknowledge(self):
        self.unacked, self.ack_at = 0, None
        if self.pushed:
            self.frame(PUSH_ACK, b"", struct.pack(">I", self.pushed))

    def take_event(self, event):
        if event["name"] == "state":
            hint = parse(STATE_HINT, event["body"])
            talk = self.conversations.get(hint["conversation"])
            if talk and hint["user_id"] != self.user_id:
                talk.peer_read = max(talk.peer_read, hint["read_seq"])
                talk.peer_delivered = max(talk.peer_delivered, hint["delivered_seq"])
            self.sync_wanted |= hint["entry_changed"]
        self.events.append(event)

    def conversation(self, name):
        return self.conversations.setdefault(name, Conversation())

    def take_row(self, pushed):
        row = dict(pushed)
        row.update(parse(CHAT, pushed["message"]) if pushed["message"] else {"sender": "", "content": None})
        talk = self.conversation(pushed["conversation"])
        self.sync_wanted = self.sync_wanted or talk.end is None
        for shown in talk.take(row):
            self.show(shown)

    def take_place(self, place):
        """A SEQ_NOTICE: an own message, whose content only we have."""
        lane = self.lanes.get(place["conversation"])
        mine = next((entry for entry in lane.items if entry["id"] == place["client_msg_id"]), None) if lane else None
        talk = self.conversation(place["conversation"])
        talk.head = max(talk.head, place["seq"])
        self.sync_wanted = self.sync_wanted or talk.end is None
        if mine:
            row = {**place, "sender": self.user_id, "device": self.device_id, "content": mine["content"],
                   "kind": mine["kind"], "control": mine["kind"] == RECALL, "target_seq": mine["target_seq"]}
            for shown in talk.take(row):
                self.show(shown)

    def show(self, row):
        self.shown.append(row)
        lane = self.lanes.get(row["conversation"])
        if lane and row["sender"] == self.user_id:
            lane.items = [entry for entry in lane.items if entry["id"] != row["client_msg_id"]]

    # ---- 8 and 9. sending ----

    def send(self, conversation, contents, kind=TEXT, target_seq=0):
        """Takes messages to send; returns their ids. `wait(settled)` sees them through."""
        ids = []
        lane = self.lanes.setdefault(conversation, Lane())
        for content in contents:
            self.counter += 1
            new = {"id": message_id(time.time() * 1000 + self.offset_ms, self.counter), "kind": kind,
                   "content": content.encode() if isinstance(content, str) else content, "target_seq": target_seq,
                   "sent": False, "accepted": False}
            lane.items.append(new)
            ids.append(new["id"])
        return ids

    def settled(self):
        """Everything was accepted and has its place, or was refused for good."""
        return not any(lane.items for lane in self.lanes.values())

    def all_accepted(self):
        return all(entry["accepted"] for lane in self.lanes.values() for entry in lane.items)

    def flush(self, items_per_frame=16, frames_per_key=8):
        for name, lane in self.lanes.items():
            while (len(self.requests) < MOST_IN_FLIGHT and len(lane.frames) < frames_per_key and not lane.broken
                   and lane.again_at <= time.monotonic()):
                batch = [entry for entry in lane.items if not entry["sent"] and not entry["accepted"]][:items_per_frame]
                if not batch:
                    break
                parts, room = [], self.welcome["max_frame_bytes"] - 1024
                for e in batch:
                    parts.append(item(2, blob(1, e["id"]) + number(2, e["kind"]) + blob(3, e["content"])
                                      + number(4, e["target_seq"])))
                    room -= len(parts[-1])
                    if room < 0 and len(parts) > 1:
                        # It did not fit the frame: the next one takes it.
                        parts.pop()
                        break
                batch, body = batch[:len(parts)], blob(1, name) + b"".join(parts)
                for entry in batch:
                    entry["sent"] = True
                ticket = object()
                lane.frames[ticket] = batch
                self.request(IM, 1, body, lambda got, failure, lane=lane, ticket=ticket:
                             self.sent(lane, ticket, got, failure), name, lane.turn)

    def sent(self, lane, ticket, got, failure):
        batch = lane.frames.pop(ticket, None)
        if batch is None:
            return
        results = [parse(SEND_RESULT, raw) for raw in fields(got).get(1, [])] if got is not None else []
        again, wait_ms = failure is None and len(results) != len(batch), 0
        for index, entry in enumerate(batch):
            result = results[index] if index < len(results) else {"outcome": REFUSED, "failure": failure or lost()}
            why = result["failure"] or lost()
            if result["outcome"] == ACCEPTED:
                entry["accepted"] = True
            elif result["outcome"] == REFUSED and not why["retryable"]:
                lane.items.remove(entry)
                self.failed[entry["id"]] = why
            else:
                again, wait_ms = True, max(wait_ms, why["retry_after_ms"])
        if again:
            lane.broken = True
            backoff = min(5.0, 0.3 * 2 ** min(lane.attempts, 6))
            lane.again_at = time.monotonic() + max(wait_ms / 1000, backoff / 2 + random.random() * backoff / 2)
        elif not lane.broken:
            lane.attempts = 0
        if lane.broken and not lane.frames:
            lane.broken, lane.turn, lane.attempts = False, lane.turn + 1, lane.attempts + 1
            for entry in lane.items:
                entry["sent"] = entry["accepted"]

    # ---- 11, 12, 13: sync, history, state ----

    def sync(self):
        """All pages of a sync; returns the entries that changed."""
        changed = []
        # Going on with one whose page failed answers no reason that came meanwhile: it may concern its first pages.
        if not self.syncing:
            self.sync_wanted, self.syncing = False, True
        while True:
            page = parse(SYNCED, self.ask(USER, 1, blob(1, self.sync_token)))
            self.sync_token = page["token"]
            for entry in page["entries"]:
                talk = self.conversation(entry["conversation"])
                talk.entry = entry
                talk.head = max(talk.head, entry["head_seq"])
                talk.peer_read = max(talk.peer_read, entry["peer_read_seq"])
                talk.peer_delivered = max(talk.peer_delivered, entry["peer_delivered_seq"])
                if talk.end is None:
                    # This client keeps everything it may see: its dense prefix begins at the first visible message.
                    for shown in talk.begin(max(1, entry["joined_seq"], entry["cleared_seq"] + 1) - 1):
                        self.show(shown)
            changed += page["entries"]
            if not page["more"]:
                self.syncing = False
                return changed

    def history(self, conversation, from_seq=0, before_seq=0, limit=50, at_least=0):
        """A page: {messages, head_seq, first_visible_seq}. Raises Refused."""
        query = (blob(1, conversation) + number(2, from_seq) + number(3, before_seq) + number(4, limit)
                 + number(5, at_least))
        page = parse(PAGE, fields(self.ask(HISTORY, 1, item(1, query)))[1][0])
        if page["failure"]:
            raise Refused(page["failure"])
        return page

    def fill(self):
        """Rule 9: repairs every hole that is known."""
        for name, talk in list(self.conversations.items()):
            while talk.end is not None and talk.head > talk.end:
                before = talk.end
                most = min(200, talk.head - talk.end)
                page = self.history(name, from_seq=talk.end + 1, limit=most, at_least=talk.end + most)
                for pushed in page["messages"]:
                    self.take_row(pushed)
                if talk.end == before:
                    break

    def set_state(self, conversation, read_seq=0, delivered_seq=0):
        body = blob(1, conversation) + number(2, read_seq) + number(7, delivered_seq)
        return parse(STATE_RESULTS, self.ask(USER, 2, item(1, body)))["results"][0]

    def profiles(self, *users):
        return parse(PROFILES, self.ask(USER, 3, b"".join(blob(1, user) for user in users)))["profiles"]

    def presence(self, *users, subscribe=False):
        """{user: state}; 0 unknown, 1 online, 2 offline."""
        got = parse(PRESENCE, self.ask(ONLINE, 2 if subscribe else 1, b"".join(blob(1, user) for user in users)))
        return {user["user_id"]: user["state"] for user in got["users"]}

    # ---- time ----

    def pump(self, seconds=0.05):
        """Lets things happen for a while: reads, acks, heartbeats, time-outs, sends."""
        self.flush()
        now = time.monotonic()
        beat = self.welcome["heartbeat_ms"] / 1000
        if now - self.heard > 2 * beat:
            raise Closed(lost("silent for two heartbeats"))
        if now - self.spoke >= beat:
            self.frame(PING)
        if self.ack_at is not None and self.ack_at <= now:
            self.acknowledge()
        for number_, (done, end) in list(self.requests.items()):
            if end < now:
                del self.requests[number_]
                done(None, lost("no answer in time"))
        payload = self.link.read(min(seconds, max(0.001, self.ack_at - now) if self.ack_at else seconds))
        while payload is not None:
            self.take(payload)
            payload = self.link.cut()
        self.flush()

    def wait(self, check, timeout_s=30):
        """Pumps until `check()`; raises TimeoutError."""
        end = time.monotonic() + timeout_s
        while not check():
            if time.monotonic() > end:
                raise TimeoutError("what was waited for did not happen")
            self.pump()

    def live(self, check, timeout_s=60):
        """Like `wait`, but survives lost connections, and syncs and fills as the rules say."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                if self.sync_wanted:
                    self.sync()
                    self.fill()
                if check():
                    return
                if any(talk.end is not None and talk.head > talk.end for talk in self.conversations.values()):
                    pause = time.monotonic() + 0.3 + random.random() * 0.2
                    while time.monotonic() < pause:
                        self.pump()
                    self.fill()
                self.pump()
            except Refused as refused:
                if not refused.failure["retryable"]:
                    raise
                # The sync, or the holes that it showed: a service that has just started says so for a while.
                self.sync_wanted = True
                time.sleep(0.3)
            except (Closed, WireError) as closed:
                failure = getattr(closed, "failure", None)
                if failure and failure["code"] in TERMINAL:
                    raise
                self.reopen(max(1, end - time.monotonic()))
            if time.monotonic() > end:
                raise TimeoutError("what was waited for did not happen")
