"""The checker can fail: one message broken on purpose is caught by its own field. What the push path drops, heals."""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
from harness import Suite, expect_clean, summary
from martlet_wire import pair

CAUGHT = {
    "drop-record": "lost", "double-record": "duplicated", "swap-records": "out_of_order",
    "miscount-record": "unread_mismatches", "miscount-unread": "unread_mismatches", "lose-at-login": "lost",
}
HEALED = ["drop-at-pushproxy", "drop-at-pushserver", "drop-at-pushworker", "drop-at-login"]
SHORT = ["--users", "10", "--seconds", "4", "--seed", "9"]


def quiet(fault=None):
    """One message in a conversation where nothing else is ever said, to somebody online who does not ask: seconds until
    it is there."""
    with Suite(*(["--fault", fault] if fault else [])) as suite:
        alice, bob = suite.client("alice", "alice-quiet"), suite.client("bob", "bob-quiet")
        for client in (alice, bob):
            client.sync()
        talk = pair("alice", "bob")
        alice.send(talk, ["the only one"])
        alice.wait(alice.all_accepted)
        began = time.monotonic()
        while not any(row["sender"] == "alice" for row in bob.shown):
            assert time.monotonic() - began < 20, f"{fault}: the last message never came"
            bob.pump()
            if bob.sync_wanted:
                bob.sync()
                bob.fill()
        took = time.monotonic() - began
        assert [row["content"] for row in bob.shown] == [b"the only one"], bob.shown
    return took


def main():
    for fault, field in CAUGHT.items():
        with Suite("--fault", fault) as suite:
            result = suite.check(*SHORT)
            assert result["exit"] == 1, f"{fault} was not noticed: {result}"
            assert result[field] >= 1, f"{fault} did not show as {field}: {result}"
            others = [name for name in CAUGHT.values() if name != field and result[name]]
            assert not others, f"{fault} showed as {others} too: {result}"
    for fault in HEALED:
        with Suite("--fault", fault) as suite:
            expect_clean(suite.check(*SHORT))
    usual = quiet()
    assert usual < 0.25, f"without a fault the only message took {usual:.2f} s"
    late = {fault: quiet(fault) for fault in HEALED}
    for fault, took in late.items():
        # Less would mean that nothing was dropped: the first repeat comes after 300 ms.
        assert took > 0.25, f"{fault} dropped nothing: the message came after {took:.2f} s"
    seconds = ", ".join(f"{fault[8:]} {took:.1f}" for fault, took in late.items())
    summary(f"{len(CAUGHT)} faults caught by their own field, {len(HEALED)} healed; "
            f"the last message of a quiet conversation after (s): {seconds}")


main()
