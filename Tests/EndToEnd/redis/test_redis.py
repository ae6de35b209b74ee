"""The suite with presence and the hot store in Redis, and everything that can befall a Redis while people chat: nothing that
was accepted is lost, doubled or reordered, and nobody has to start anything again. Docs/failures.md says the same in words."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from backends import Redis, wait_for
from harness import MARTLET, Suite, expect_clean, finish_check, summary
from servers import Relay, Sentinel

# How long an outage lasts; `make soak` sets a minute.
OUTAGE = float(os.environ.get("MARTLET_OUTAGE", "6"))


def over(presence, hot=None, *more):
    return Suite("--presence", presence.url, "--hot", (hot or presence).url, *more)


def chat(suite, seconds, seed, background=False):
    arguments = ["--users", "30", "--seconds", str(int(seconds)), "--seed", str(seed)]
    return suite.check(*arguments, background=background)


def killed_and_empty():
    """Clean while Redis is well; then it is killed in the middle and comes back empty: the Logins bring everybody back."""
    with Redis() as redis, over(redis) as suite:
        clean = expect_clean(chat(suite, 4, 1), at_least=100)
        rows = redis.keys("m:h{*}:*")
        assert len(rows) > 10, f"the hot store holds {len(rows)} conversations"
        running = chat(suite, 10, 2, background=True)
        time.sleep(4)
        # Somebody is always between two connections.
        wait_for(lambda: len(redis.keys("m:p{*}u:*")) >= 30, "presence does not hold everybody")
        redis.kill()
        time.sleep(1)
        redis.start()
        wait_for(lambda: len(redis.keys("m:p{*}u:*")) >= 30, "not everybody came back")
        return clean["acked"], expect_clean(finish_check(running), at_least=100)["acked"]


def stopped_under_load():
    """Connections stay and nothing is answered. The services are processes of their own."""
    with Redis() as redis, over(redis, None, "--processes") as suite:
        running = chat(suite, OUTAGE + 6, 3, background=True)
        time.sleep(3)
        redis.signal(signal.SIGSTOP)
        time.sleep(OUTAGE)
        redis.signal(signal.SIGCONT)
        return expect_clean(finish_check(running), at_least=100)["acked"]


def hot_down_under_load():
    """Only the hot store is away: people go on chatting, and history comes from the recent store."""
    with Redis() as presence, Redis("--maxmemory-policy", "allkeys-lru") as hot, over(presence, hot) as suite:
        running = chat(suite, OUTAGE + 6, 4, background=True)
        time.sleep(2)
        hot.kill()
        time.sleep(OUTAGE)
        hot.start()
        result = expect_clean(finish_check(running), at_least=100)
        wait_for(lambda: len(hot.keys("m:h{*}:*")) > 10, "the hot store was not filled again")
        return result["acked"]


def down_at_start():
    """The suite starts all the same; logins are taken up as soon as Redis is there."""
    redis = Redis()
    try:
        with over(redis) as suite:
            running = chat(suite, 4, 5, background=True)
            time.sleep(2)
            assert running.poll() is None, running.communicate()
            redis.start()
            acked = expect_clean(finish_check(running), at_least=50)["acked"]
            assert "cmdstat_evalsha:" in redis.cli("INFO", "commandstats"), "nobody used Redis"
            return acked
    finally:
        redis.__exit__()


def two_seconds_for_everything():
    with Redis() as redis, Relay(redis, delay=2.0) as relay, over(relay) as suite:
        return expect_clean(chat(suite, 8, 6), at_least=50)["acked"]


def cut_in_the_middle_of_answers():
    with Redis() as redis, Relay(redis, cut=200_000) as relay, over(relay) as suite:
        acked = expect_clean(chat(suite, 10, 7), at_least=100)["acked"]
        assert relay.cuts >= 5, f"only {relay.cuts} connections were cut"
        return acked, relay.cuts


def failed_over():
    """The master dies; its replica is promoted and has what it had been told."""
    with Redis() as master, Redis("--replicaof", f"127.0.0.1 {master.port}") as replica, Sentinel(master) as sentinel:
        wait_for(lambda: "num-slaves\n1" in sentinel.cli("SENTINEL", "MASTER", "chat"), "the sentinel sees no replica")
        with over(sentinel) as suite:
            running = chat(suite, 12, 8, background=True)
            time.sleep(4)
            master.kill()
            wait_for(lambda: "role:master" in replica.cli("INFO", "replication"), "nobody was promoted")
            wait_for(lambda: "cmdstat_evalsha:" in replica.cli("INFO", "commandstats"), "nobody uses the new master")
            wait_for(lambda: len(replica.keys("m:p{*}u:*")) >= 30, "the sessions are not where the master is now")
            return expect_clean(finish_check(running), at_least=100)["acked"]


def unfit_servers_end_the_start():
    """One line that says what is wrong, and no data folder half made."""
    with Redis("--maxmemory-policy", "allkeys-lru") as redis:
        for mode in ([], ["--processes"]):
            said = refused("--presence", redis.url, *mode)
            assert "maxmemory-policy is allkeys-lru" in said and "noeviction" in said and "--presence" in said, said
        redis.cli("CONFIG", "SET", "requirepass", "x" * 20)
        said = refused("--hot", redis.url)
        assert "NOAUTH" in said and "--hot" in said, said
    said = refused("--hot", "redis://someone@127.0.0.1:1")
    assert "--redis-password-file" in said, said


def refused(*arguments):
    """The one line with which a start ends."""
    suite = Suite()
    command = [MARTLET, "up", "--data", str(suite.folder), "--tcp-port", "0", "--ws-port", "0", "--http-port", "0",
               "--rpc-port", "0", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    suite.close()
    lines = [line for line in done.stderr.splitlines() if line]
    assert done.returncode == 1 and len(lines) == 1, f"exit {done.returncode}: {done.stderr}"
    return lines[0]


def main():
    wanted = sys.argv[1:]
    said = {}
    for case in (unfit_servers_end_the_start, killed_and_empty, stopped_under_load, hot_down_under_load, down_at_start,
                 two_seconds_for_everything, cut_in_the_middle_of_answers, failed_over):
        if wanted and case.__name__ not in wanted:
            continue
        began = time.monotonic()
        said[case.__name__] = case()
        print(f"{case.__name__}: {json.dumps(said[case.__name__])}, {time.monotonic() - began:.0f} s", flush=True)
    acked = {name: what for name, what in said.items() if what}
    summary(f"nothing lost of the messages acked: {json.dumps(acked)}")


main()
