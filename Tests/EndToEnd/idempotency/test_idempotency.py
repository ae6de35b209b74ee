"""A resend is the same message: the ack lost, another Login, a full restart, both ends of the named window. And a trace."""
import base64
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
from harness import Suite, summary
from martlet_client import Client
from martlet_wire import Refused, blob, fields, item, make_token, message_id, number, pair, parse

import martlet_client as rules

RECALL = 3
DAY_MS = 24 * 3600 * 1000
HOPS = ["login", "route", "im", "msgproxy", "msgwriter", "pushproxy", "pushserver", "pushworker"]


def connect(suite, user, device):
    demo = suite.demo()
    token = make_token(demo["app"], demo["key_id"], base64.b64decode(demo["secret"]), user)
    return Client.connect("127.0.0.1", suite.ports["tcp"], token, device)


def body(conversation, identifier, text, trace=""):
    return (blob(1, conversation) + item(2, blob(1, identifier) + number(2, 1) + blob(3, text))
            + (blob(3, trace) if trace else b""))


def recall_body(conversation, identifier, seq):
    return blob(1, conversation) + item(2, blob(1, identifier) + number(2, RECALL) + number(4, seq))


def send(client, conversation, identifier, text, turn=0, trace=""):
    """One send and its outcome: "accepted" or the reason of the refusal."""
    return outcome(client, conversation, body(conversation, identifier, text, trace), turn)


def outcome(client, conversation, request, turn=0):
    answer = []
    client.request(1, 1, request, lambda *got: answer.append(got), conversation, turn)
    client.wait(lambda: answer, 15)
    got, failure = answer[0]
    if failure:
        return failure["reason"]
    result = parse(rules.SEND_RESULT, fields(got)[1][0])
    return "accepted" if result["outcome"] == rules.ACCEPTED else result["failure"]["reason"]


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
        client = connect(suite, "alice", "phone")
        client.request(1, 1, body(conversation, identifier, text), lambda *_: None, conversation, 0)
        client.drop()
    client = connect(suite, "alice", "phone")
    assert send(client, conversation, identifier, text) == "accepted"
    return client


def recall_again(suite, conversation):
    """A recall whose answer was lost is accepted again, at once and after a kill, and stored once."""
    regretted, identifier = (message_id(int(time.time() * 1000), number) for number in (70, 71))
    client = connect(suite, "alice", "phone")
    assert send(client, conversation, regretted, "regretted") == "accepted"
    deadline = time.monotonic() + 10
    while not (seqs := places(client, conversation, regretted)) and time.monotonic() < deadline:
        time.sleep(0.1)
    request = recall_body(conversation, identifier, seqs[0])
    client.request(1, 1, request, lambda *_: None, conversation, 0)
    client.drop()
    for _ in range(2):
        client = connect(suite, "alice", "phone")
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
        client = connect(suite, "alice", "phone")
        time.sleep(1)
        for name, identifier in identifiers.items():
            found = places(client, conversation, identifier)
            assert len(found) == 1, f"{name}: stored at {found}"
        for moment in (now - 6 * DAY_MS - 60_000, now + 7 * 60_000):
            outcome = send(client, conversation, message_id(moment, 9), "too late")
            assert outcome == "resend_expired", outcome
        trace = "trace-e2e-1"
        bob = connect(suite, "bob", "phone")
        assert send(client, conversation, message_id(int(time.time() * 1000), 99), "traced", trace=trace) == "accepted"
        bob.live(lambda: any("traced" in str(row) for row in bob.shown), 10)
        deadline = time.monotonic() + 10
        seen = set()
        while time.monotonic() < deadline and not set(HOPS) <= seen:
            text = suite.log.read_text(errors="replace")
            seen = {hop for line in text.splitlines() if trace in line for hop in re.findall(r"service=(\w+)", line)}
            time.sleep(0.1)
        assert set(HOPS) <= seen, f"hops missing from the trace: {sorted(set(HOPS) - seen)}; seen {sorted(seen)}"
        client.close()
        bob.close()
    summary(f"one message, one seq, through lost acks and a kill, at 3 places of the window; {len(seen)} services traced")


if __name__ == "__main__":
    try:
        main()
    except Refused as refusal:
        sys.exit(f"wrong: refused: {refusal}")
