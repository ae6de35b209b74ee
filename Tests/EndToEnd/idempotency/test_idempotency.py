"""A resend is the same message: the ack lost, another Login, a full restart, both ends of the named window. And a trace."""
import json
import os
import pathlib
import re
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
from harness import Suite, summary
from martlet_wire import Refused, blob, fields, item, message_id, number, pair


RECALL = 3
DAY_MS = 24 * 3600 * 1000
# One message's way, in order: up to the log, from the log to the push log, and down again.
HOPS = ["login", "route", "im", "msgproxy", "log", "msgwriter", "pushproxy", "pushlog", "pushserver", "online",
        "pushworker", "route", "login"]


def body(conversation, identifier, text, trace=""):
    return (blob(1, conversation) + item(2, blob(1, identifier) + number(2, 1) + blob(3, text))
            + (blob(3, trace) if trace else b""))


def recall_body(conversation, identifier, seq):
    return blob(1, conversation) + item(2, blob(1, identifier) + number(2, RECALL) + number(4, seq))


def send(client, conversation, identifier, text, turn=0, trace=""):
    """One send and its outcome: "accepted" or the reason of the refusal."""
    return outcome(client, conversation, body(conversation, identifier, text, trace), turn)


def outcome(client, conversation, request, turn=0):
    return client.outcomes(conversation, request, turn)[0]


def places(client, conversation, identifier):
    """The seqs at which history has this client_msg_id."""
    deadline = time.monotonic() + 10
    while True:
        try:
            client.sync()
            page = client.history(conversation, from_seq=1, limit=200)
            break
        except Refused as refusal:
            # Services that have just started are found within seconds.
            if not refusal.failure["retryable"] or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    return [row["seq"] for row in page["messages"] if row_id(row) == identifier]


def row_id(row):
    message = row["message"]
    return message["client_msg_id"] if isinstance(message, dict) else fields(message)[3][0]


def lost_acks(suite, conversation, identifier, text):
    """Written, and the connection cut before the answer; again through new sessions, which land on both event loops."""
    for _ in range(4):
        client = suite.client("alice", "phone")
        client.request(1, 1, body(conversation, identifier, text), lambda *_: None, conversation, 0)
        client.drop()
    client = suite.client("alice", "phone")
    assert send(client, conversation, identifier, text) == "accepted"
    return client


def recall_again(suite, conversation):
    """A recall whose answer was lost is accepted again, at once and after a kill, and stored once."""
    regretted, identifier = (message_id(int(time.time() * 1000), number) for number in (70, 71))
    client = suite.client("alice", "phone")
    assert send(client, conversation, regretted, "regretted") == "accepted"
    deadline = time.monotonic() + 10
    while not (seqs := places(client, conversation, regretted)) and time.monotonic() < deadline:
        time.sleep(0.1)
    request = recall_body(conversation, identifier, seqs[0])
    client.request(1, 1, request, lambda *_: None, conversation, 0)
    client.drop()
    for _ in range(2):
        client = suite.client("alice", "phone")
        while not places(client, conversation, identifier) and time.monotonic() < deadline:
            # The first copy may have been cut off with its connection.
            assert outcome(client, conversation, request) == "accepted"
            time.sleep(0.1)
        assert outcome(client, conversation, request) == "accepted", "the resend of a stored recall was refused"
        assert len(places(client, conversation, identifier)) == 1
        client.close()
        suite.kill()
        suite.start()
        deadline = time.monotonic() + 10


def main():
    conversation = pair("alice", "bob")
    with Suite("--loops", "2", environment={"MARTLET_LOG": "info"}) as suite:
        now = int(time.time() * 1000)
        window = {"now": now, "oldest": now - 6 * DAY_MS + 60_000, "newest": now + 4 * 60_000}
        identifiers = {name: message_id(moment, index) for index, (name, moment) in enumerate(window.items())}
        for name, identifier in identifiers.items():
            lost_acks(suite, conversation, identifier, f"once, {name}").close()
        suite.kill()
        suite.start()
        for name, identifier in identifiers.items():
            client = lost_acks(suite, conversation, identifier, f"once, {name}")
            client.close()
        recall_again(suite, conversation)
        client = suite.client("alice", "phone")
        time.sleep(1)
        for name, identifier in identifiers.items():
            found = places(client, conversation, identifier)
            assert len(found) == 1, f"{name}: stored at {found}"
        for moment in (now - 6 * DAY_MS - 60_000, now + 7 * 60_000):
            outcome = send(client, conversation, message_id(moment, 9), "too late")
            assert outcome == "resend_expired", outcome
        client.close()
    with Suite("--loops", "1", environment={"MARTLET_LOG": "info"}) as suite:
        follow(suite)
    with Suite("--processes", environment={"MARTLET_LOG": "info"}) as suite:
        follow(suite)
        killed_logins(suite)
    summary(f"one message, one seq, through lost acks and a kill, at 3 places of the window, and by another Login, "
            f"IM and MsgProxy after theirs were killed; "
            f"{len(HOPS)} hops traced in order, in one process and in many")


def hops(suite, trace):
    """The services that traced it, in the order of the machine's clock."""
    seen = []
    for line in suite.log.read_text(errors="replace").splitlines():
        if f"trace={trace}" in line:
            at, service = (re.search(rf"\b{key}=(\w+)", line).group(1) for key in ("at_us", "service"))
            seen.append((int(at), len(seen), service))
    return [service for _, _, service in sorted(seen)]


def follow(suite):
    """One traced message passes every hop once, in order."""
    alice, bob = suite.client("alice", "phone"), suite.client("bob", "phone")
    conversation, trace = pair("alice", "bob"), "trace-e2e-1"
    # Untraced until the services know each other.
    turn, end = 0, time.monotonic() + 20
    while (outcome := send(alice, conversation, message_id(time.time() * 1000, turn), "warm", turn)) != "accepted":
        assert outcome in RETRYABLE and time.monotonic() < end, outcome
        turn += 1
        time.sleep(0.3)
    identifier = message_id(int(time.time() * 1000), 99)
    assert send(alice, conversation, identifier, "traced", turn, trace) == "accepted"
    bob.live(lambda: any("traced" in str(row) for row in bob.shown), 10)
    deadline = time.monotonic() + 10
    while len(seen := hops(suite, trace)) < len(HOPS) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert seen == HOPS, f"the way was {seen}, wanted {HOPS}"
    alice.close()
    bob.close()


def killed_logins(suite, rounds=3):
    """The message is stored, its ack never reaches the sender because Login is killed, and the resend goes through
    another Login, IM and MsgProxy: one message, one seq."""
    conversation = pair("carol", "dave")
    for index in range(rounds):
        carol, dave = suite.client("carol", "phone"), suite.client("dave", "phone")
        dave.live(lambda: True)
        identifier = message_id(int(time.time() * 1000), index)
        carol.request(1, 1, body(conversation, identifier, f"twice {index}"), lambda *_: None, conversation, 0)
        # Dave has it, so it is stored; carol has not read a byte of what came back.
        dave.live(lambda: any(f"twice {index}" in str(row) for row in dave.shown), 10)
        for pid in running(suite, ("login", "im", "msgproxy")):
            os.kill(pid, signal.SIGKILL)
        carol.drop()
        carol.reopen()
        end = time.monotonic() + 30
        while (outcome := send(carol, conversation, identifier, f"twice {index}")) != "accepted":
            assert outcome in RETRYABLE and time.monotonic() < end, outcome
            carol.drop()
            time.sleep(0.5)
            carol.reopen()
        found = places(carol, conversation, identifier)
        assert found == [index + 1], f"round {index}: stored at {found}"
        carol.close()
        dave.drop()


def running(suite, roles):
    """The processes of these roles, as soon as each has one: a slow machine may still be starting those just killed."""
    end = time.monotonic() + 20
    while True:
        pids = json.loads((suite.folder / "pids.json").read_text())
        if all(pids.get(role) for role in roles):
            return [pid for role in roles for pid in pids[role]]
        assert time.monotonic() < end, f"not started again: {pids}"
        time.sleep(0.1)


RETRYABLE = {"service_unavailable", "retry", "outcome_unknown", "overloaded", "busy", "resend_in_order",
             "deadline_exceeded"}


if __name__ == "__main__":
    try:
        main()
    except Refused as refusal:
        sys.exit(f"wrong: refused: {refusal}")
