"""The checker can fail: one message broken on purpose is caught by its own field. What the push path drops, heals."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import Suite, expect_clean, summary

CAUGHT = {"drop-record": "lost", "double-record": "duplicated", "swap-records": "out_of_order"}
HEALED = ["drop-at-pushproxy", "drop-at-pushserver", "drop-at-pushworker", "drop-at-login"]
SHORT = ["--users", "10", "--seconds", "4", "--seed", "9"]


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
    summary(f"{len(CAUGHT)} faults caught by their own field, {len(HEALED)} healed")


main()
