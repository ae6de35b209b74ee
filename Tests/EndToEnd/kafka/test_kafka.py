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
from harness import MARTLET, ROOT, Suite, expect_clean, finish_check, summary
from relay import Relay
from servers import Kafka


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
            suite.start()
        during = expect_clean(finish_check(running), at_least=100)
        began = time.monotonic()
        expect_clean(suite.check("--users", "4", "--seconds", "1", "--seed", "4"), at_least=4)
        took = time.monotonic() - began
        assert took < 15, f"{took:.1f} s for a check of one second after a kill"
        return during


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
        f"&& rm '{relay.held}'", "--start", start, "--options", kafka.OPTIONS,
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
        restarted, killed, cut, apart = (run(kafka) for run in (restarted_run, killed_run, cut_run, apart_run))
        assert apart["kills"] == 4, apart["kills"]
        scripted = verified(kafka)
    summary(
        f"acked {restarted['acked']} (server restarted), {killed['acked']} (suite killed twice), {cut['acked']} "
        f"({cut['cuts']} answers cut), {apart['acked']} (processes, {apart['kills']} killed), {scripted} "
        f"(verify-kafka.sh): nothing lost, doubled, reordered; p99 {restarted['latency_ms']['p99']} ms")


main()
