"""Every MsgWriter stopped for a while: nothing that was accepted is lost, whoever writes little notices nothing, and the
conversation that writes most is told `busy` before the log grows without bound."""
import json
import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
import martlet_wire as wire
from harness import Suite, summary

STOPPED_S = 12
FRAME = 32


def send(sender, talk, texts):
    """One frame; per text "accepted" or the reason."""
    items = b""
    for text in texts:
        identifier = wire.message_id(time.time() * 1000, send.turn)
        items += wire.item(2, wire.blob(1, identifier) + wire.number(2, 1) + wire.blob(3, text))
        send.turn += 1
    told = sender.outcomes(talk, wire.blob(1, talk) + items, send.turn)
    return told if len(told) == len(texts) else told * len(texts)


send.turn = 1


def main():
    with Suite("--processes") as suite:
        alice, bob, carol, dave = (suite.client(user, f"{user}-phone") for user in ("alice", "bob", "carol", "dave"))
        heavy, light = wire.pair("alice", "bob"), wire.pair("carol", "dave")
        accepted = {heavy: [], light: []}
        told = {heavy: set(), light: set()}

        def say(sender, talk, count):
            texts = [f"{len(accepted[talk])} {index} {send.turn}" for index in range(count)]
            for text, outcome in zip(texts, send(sender, talk, texts)):
                told[talk].add(outcome)
                if outcome == "accepted":
                    accepted[talk].append(text)

        for sender, talk in ((alice, heavy), (carol, light)):
            # A suite that has just started says `retry` for a moment.
            while not accepted[talk]:
                say(sender, talk, 1)
                time.sleep(0.1)
            told[talk].clear()
        writers = json.loads((suite.folder / "pids.json").read_text())["msgwriter"]
        for pid in writers:
            os.kill(pid, signal.SIGSTOP)
        try:
            end = time.monotonic() + STOPPED_S
            turn = 0
            while time.monotonic() < end:
                say(alice, heavy, FRAME)
                if turn % 5 == 0:
                    say(carol, light, 1)
                turn += 1
                for one in (bob, dave):
                    one.pump(0.05)
        finally:
            for pid in writers:
                os.kill(pid, signal.SIGCONT)
        assert "busy" in told[heavy], f"the heavy conversation was told {told[heavy]}"
        assert told[light] == {"accepted"}, f"the light one was told {told[light]}"
        for one, talk in ((bob, heavy), (dave, light)):
            one.live(lambda: talk in one.conversations and len(one.conversations[talk].rows) >= len(accepted[talk]))
            rows = one.conversations[talk].rows
            texts = [rows[seq]["content"].decode() for seq in sorted(rows)]
            assert texts == accepted[talk], f"{talk}: {texts[:3]} ... {texts[-3:]}"
        end = time.monotonic() + 20
        while send(alice, heavy, ["caught up"]) != ["accepted"]:
            assert time.monotonic() < end, "still busy although the writers have caught up"
            time.sleep(0.5)
        for one in (alice, bob, carol, dave):
            one.close()
    summary(f"MsgWriters stopped {STOPPED_S} s: {len(accepted[heavy])} of the heavy conversation accepted, then busy; "
            f"{len(accepted[light])} of the light one; all there")


main()
