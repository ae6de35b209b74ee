"""A well-behaved pair that talks all the while, in a process of its own; prints figures as JSON when told to stop."""
import json
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
from martlet_client import Client
from martlet_wire import pair

EVERY_S = 0.02


def main():
    port, stop, *tokens = int(sys.argv[1]), pathlib.Path(sys.argv[2]), *sys.argv[3:]
    one, other = (Client.connect("127.0.0.1", port, token, f"neighbour-{index}") for index, token in enumerate(tokens))
    for client in (one, other):
        client.live(lambda: True)
    talk = pair(one.user_id, other.user_id)
    sent, arrived, next_at = {}, {}, 0
    looked = {one.user_id: 0, other.user_id: 0}

    def look(client):
        for row in client.shown[looked[client.user_id]:]:
            if row["sender"] != client.user_id:
                assert row["client_msg_id"] not in arrived, "a message was shown twice"
                arrived[row["client_msg_id"]] = time.monotonic()
        looked[client.user_id] = len(client.shown)

    while not stop.exists():
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + EVERY_S
            for client in (one, other):
                (identifier,) = client.send(talk, [f"{client.user_id} {len(sent)}"])
                sent[identifier] = time.monotonic()
        for client in (one, other):
            client.live(lambda: True)
            client.pump(0.001)
            look(client)
    for client in (one, other):
        client.live(client.settled)
    end = time.monotonic() + 30
    while len(arrived) < len(sent) and time.monotonic() < end:
        for client in (one, other):
            client.live(lambda: True)
            client.pump(0.01)
            look(client)
    for identifier in set(sent) - set(arrived):
        # Where it is: who sent it knows its place, who lacks it knows how far the conversation goes.
        places = [[row["seq"] for row in client.conversations[talk].rows.values() if row["client_msg_id"] == identifier]
                  for client in (one, other)]
        knows = [(client.user_id, client.conversations[talk].end, client.conversations[talk].head) for client in (one, other)]
        print(f"missing {identifier.hex()}: rows {places}, (who, end, head) {knows}", file=sys.stderr, flush=True)
    took = sorted(arrived[identifier] - sent[identifier] for identifier in arrived)
    orders = [[row["client_msg_id"].hex() for row in client.shown] for client in (one, other)]
    print(json.dumps({
        "sent": len(sent), "arrived": len(arrived), "lost": len(set(sent) - set(arrived)),
        "same_order": orders[0] == orders[1], "refused": len(one.failed) + len(other.failed),
        "reconnects": one.reconnects + other.reconnects,
        "p50_ms": round(took[len(took) // 2] * 1000, 1), "p99_ms": round(took[len(took) * 99 // 100] * 1000, 1)}))


main()
