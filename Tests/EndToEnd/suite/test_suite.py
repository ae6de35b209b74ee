"""The one-process suite under load, kill -9 in the middle, restart: nothing accepted is lost."""
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import Suite, expect_clean, finish_check, summary

USERS = os.environ.get("MARTLET_CHECK_USERS", "60")
SECONDS = os.environ.get("MARTLET_CHECK_SECONDS", "8")


def clean_run(suite):
    return expect_clean(suite.check("--users", USERS, "--seconds", SECONDS, "--seed", "1"), at_least=200)


def killed_run(suite, seed):
    """The whole suite dies by kill -9 while clients send, comes back on the same ports, and nothing is missing."""
    running = suite.check("--users", USERS, "--seconds", str(int(SECONDS) + 6), "--seed", str(seed), background=True)
    time.sleep(int(SECONDS) / 2)
    suite.kill()
    time.sleep(1)
    suite.start()
    return expect_clean(finish_check(running), at_least=200)


def main():
    with Suite() as suite:
        first = clean_run(suite)
        killed = killed_run(suite, seed=2)
        began = time.monotonic()
        suite.stop()
        suite.start()
        again = time.monotonic() - began
        assert again < 10, f"a restart over {first['acked'] + killed['acked']} messages took {again:.1f} s"
        after = expect_clean(suite.check("--users", "10", "--seconds", "2", "--seed", "3"))
    summary(
        f"acked {first['acked']} + {killed['acked']} (killed) + {after['acked']}, nothing lost, doubled, reordered; "
        f"p99 {first['latency_ms']['p99']} ms; restart {again:.1f} s")


main()
