"""The suite with its log in Kafka, checked while the server restarts cleanly, while the suite is killed with -9, while
connections are cut half-way through a reply, and, as processes, while MsgWriter is killed. The checker fails when a
message is lost, doubled or out of order."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from backends import Kafka
from harness import MARTLET, ROOT, Suite, expect_clean, finish_check, ops, summary
from relay import Relay


def refused(*options):
    """What `martlet up` says when it does not start."""
    folder = tempfile.mkdtemp(prefix="martlet-kafka-")
    try:
        result = subprocess.run(
            [MARTLET, "up", "--data", folder, "--http-port", "0", "--ws-port", "0", "--tcp-port", "0", "--rpc-port",
             "0", *options], capture_output=True, text=True, timeout=60)
        lines = [line for line in result.stderr.splitlines() if line.startswith("martlet: ")]
        assert result.returncode == 1 and len(lines) == 1, result.stderr
        return lines[0]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def restarted_run(kafka):
    """The server of the log stops cleanly and comes back while clients send. It loses what it acknowledges while it
    saves itself, so nothing reaches it at that moment."""
    relay = Relay(kafka.port, seed=1)
    try:
        with Suite("--log", kafka.address("restart", relay.port)) as suite:
            running = suite.check("--users", "10", "--seconds", "6", "--seed", "1", background=True)
            time.sleep(3)
            relay.quiet()
            kafka.stop()
            relay.resume()
            time.sleep(0.5)
            kafka.start()
            return expect_clean(finish_check(running), at_least=100)
    finally:
        relay.close()


def killed_run(kafka):
    """The whole suite dies while clients send and is started again over the same folder and the same log."""
    with Suite("--log", kafka.address("killed")) as suite:
        running = suite.check("--users", "10", "--seconds", "8", "--seed", "2", background=True)
        for _ in range(2):
            time.sleep(2.5)
            suite.kill()
            # What was accepted and not passed waits in the log, and grows old.
            behind = lags(kafka, "killed")
            assert sum(lag["records"] for lag in behind) > 0, behind
            assert all((lag["records"] > 0) == ("behind_ms" in lag) for lag in behind), behind
            assert all(lag.get("behind_ms", 0) < 60_000 for lag in behind), behind
            suite.start()
        during = expect_clean(finish_check(running), at_least=100)
        began = time.monotonic()
        expect_clean(suite.check("--users", "4", "--seconds", "1", "--seed", "4"), at_least=4)
        took = time.monotonic() - began
        assert took < 15, f"{took:.1f} s for a check of one second after a kill"
        for _ in range(100):
            if sum(lag["records"] for lag in lags(kafka, "killed")) == 0:
                return during
            time.sleep(0.1)
        raise AssertionError(f"MsgWriter stays behind: {lags(kafka, 'killed')}")


def lags(kafka, topics):
    """What MsgWriter has not passed, by partition."""
    found = [lag for lag in ops("topics", "lag", "--log", kafka.address(topics)) if lag["log"] == "msg"]
    assert [lag["partition"] for lag in found] == list(range(8)) and found[0]["group"] == "msgwriter", found
    return found


def topics_made(kafka):
    """Topics as the suite needs them, and topics that will not do, which are told before and by the start."""
    log = ["--log", kafka.address("made")]
    assert "there is no topic made-msg" in ops("topics", "describe", *log, code=1)
    [dry, _] = ops("topics", "create", "--dry-run", *log)
    assert dry["created"] == ["made-msg", "made-msg.identity"], dry
    assert ops("topics", "create", *log)[0]["created"] == dry["created"]
    assert [made["created"] for made in ops("topics", "create", *log)] == [[], []]
    [described, _] = ops("topics", "describe", *log)
    assert described["partitions"] == 8 and described["fit"] and described["wrong"] == [], described
    few = ["--log", kafka.address("few")]
    said = ops("topics", "create", "--partitions", "4", *few, code=1)
    assert "[unconfirmed]" in said and "4 partitions and 8" in said, said
    ops("topics", "create", "--partitions", "4", "--yes", *few)
    said = ops("topics", "describe", *few, code=1)
    assert "few-msg has 4 partitions and 8" in said and "[refused]" in said, said
    assert "4 partitions" in refused(*few)
    assert "[options]" in ops("topics", "describe", code=1)
    with Suite(*log) as suite:
        expect_clean(suite.check("--users", "4", "--seconds", "1", "--seed", "7"), at_least=4)


def cut_run(kafka):
    """Connections to the server end half-way through its answers, again and again."""
    relay = Relay(kafka.port, seed=5)
    try:
        with Suite("--log", kafka.address("cut", relay.port)) as suite:
            running = suite.check("--users", "10", "--seconds", "8", "--seed", "5", background=True)
            for _ in range(8):
                time.sleep(0.9)
                relay.cut(2)
            result = expect_clean(finish_check(running), at_least=50)
            assert relay.cuts >= 10, f"only {relay.cuts} answers were cut"
            return {**result, "cuts": relay.cuts}
    finally:
        relay.close()


def apart_run(kafka):
    """Separate processes, both logs in Kafka; those that read or write them are killed with -9 while clients send."""
    with Suite("--processes", "--log", kafka.address("processes")) as suite:
        return expect_clean(
            suite.check(
                "--users", "10", "--seconds", "15", "--seed", "3", "--kill", "msgwriter,msgproxy,msgwriter,pushserver",
                "--pids", str(suite.folder / "pids.json")), at_least=50)


def verified(kafka):
    """The script for clusters of three brokers, its whole way on the one server there is, which stops cleanly and comes
    back: what a broker's kill -9 does is not shown here."""
    pid = kafka.folder / "pid"
    pid.write_text(str(kafka.process.pid))
    relay = Relay(kafka.port, seed=6)
    start = (f"'{kafka.program}' start --only kafka --kafka-port {kafka.port} --data-dir '{kafka.folder}' >/dev/null 2>&1 & "
             f"echo $! >'{pid}'")
    command = [
        str(ROOT / "Deploy" / "verify-kafka.sh"), "--brokers", f"127.0.0.1:{relay.port}", "--names", "only",
        "--kill", f"test $BROKER = only && touch '{relay.held}' && sleep 0.3 && kill $(cat '{pid}') && sleep 0.5 "
        f"&& rm '{relay.held}'", "--start", start, "--options", Kafka.OPTIONS,
        "--topics", "verify-", "--down", "3", "--users", "6", "--martlet", MARTLET]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    finally:
        relay.close()
        # Another process than the one that this began with.
        os.kill(int(pid.read_text()), signal.SIGTERM)
        kafka.process.wait(20)
    assert result.returncode == 0, result.stdout + result.stderr
    line = result.stdout.splitlines()[-1]
    acked = int(line.split()[1])
    assert acked > 20 and "1 brokers were killed" in line, line
    return acked


def main():
    with Kafka() as kafka:
        strict = refused("--log", f"kafka://127.0.0.1:{kafka.port}")
        assert "msg" in strict, strict
        short = refused("--log", kafka.address("short") + "&acks=1")
        assert "acks" in short, short
        topics_made(kafka)
        restarted, killed, cut, apart = (run(kafka) for run in (restarted_run, killed_run, cut_run, apart_run))
        assert apart["kills"] == 4, apart["kills"]
        scripted = verified(kafka)
    summary(
        f"acked {restarted['acked']} (server restarted), {killed['acked']} (suite killed twice), {cut['acked']} "
        f"({cut['cuts']} answers cut), {apart['acked']} (processes, {apart['kills']} killed), {scripted} "
        f"(verify-kafka.sh): nothing lost, doubled, reordered; p99 {restarted['latency_ms']['p99']} ms")


main()
