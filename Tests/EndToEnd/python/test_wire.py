#!/usr/bin/env python3
"""The Python client against the fake server of Tests/Web over a real WebSocket: two implementations, one document.

    test_wire.py --port PORT [--control-port PORT]      (node Tests/Web/dev-server.mjs PORT; controls on the port above)
"""

import argparse
import sys
import time
import urllib.request

import martlet_client as m


def texts(client, conversation):
    talk = client.conversations.get(conversation)
    return [talk.rows[seq]["content"].decode() for seq in sorted(talk.rows)] if talk else []


def control(port, word):
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/{word}", method="POST"), timeout=10).read()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control-port", type=int)
    arguments = parser.parse_args()
    talk = m.pair("bob", "alice")
    assert talk == "p:alice|bob"
    dial = lambda user: m.Client.connect("127.0.0.1", arguments.port, user, f"py-{user}-{time.time()}", websocket=True)
    alice, bob = dial("alice"), dial("bob")
    alice.live(lambda: not alice.sync_wanted)
    bob.live(lambda: not bob.sync_wanted)
    before = len(texts(alice, talk))
    words = [f"w{number} ü 界" for number in range(100)]
    alice.send(talk, words)
    alice.live(alice.settled)
    bob.live(lambda: texts(bob, talk)[-1:] == words[-1:])
    assert texts(alice, talk)[before:] == words and texts(bob, talk)[before:] == words
    assert bob.presence("alice", "nobody") == {"alice": 1, "nobody": 2}
    assert bob.set_state(talk, read_seq=bob.conversations[talk].end)["ok"]
    alice.live(lambda: alice.conversations[talk].peer_read == bob.conversations[talk].end)
    page = bob.history(talk, before_seq=bob.conversations[talk].end + 1, limit=10)
    assert [m.parse(m.CHAT, row["message"])["content"].decode() for row in page["messages"]] == words[-10:]
    try:
        m.Client.connect("127.0.0.1", arguments.port, "mallory", "py", websocket=True)
        raise SystemExit("a bad token was accepted")
    except m.Closed as closed:
        assert closed.failure["reason"] == "token_bad_signature"
    if arguments.control_port:
        control(arguments.control_port, "stop")
        alice.send(talk, ["after"])
        time.sleep(1)
        control(arguments.control_port, "start")
        alice.live(alice.settled)
        bob.live(lambda: texts(bob, talk)[-1:] == ["after"])
        assert texts(alice, talk)[before:] == words + ["after"] == texts(bob, talk)[before:]
        assert alice.reconnects == 1
    alice.close()
    bob.close()
    print("ok")


if __name__ == "__main__":
    sys.exit(main())
