"""The suite with its log in Kafka: a check through a clean restart of the server, and one over separate processes."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import MARTLET, Suite, expect_clean, finish_check, summary

PROGRAM = os.environ["MARTLET_KAFKA_SERVER"]


class Kafka:
    """A server of Kafka's protocol over a folder that survives its restarts."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="martlet-kafka-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = None

    @property
    def address(self):
        return f"kafka://127.0.0.1:{self.port}?development=true"

    def start(self):
        self.process = subprocess.Popen(
            [PROGRAM, "start", "--only", "kafka", "--kafka-port", str(self.port), "--data-dir", str(self.folder)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        """A clean stop: what it acknowledged is kept."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


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


def restarted_run(kafka, suite):
    """The server of the log stops cleanly and comes back while clients send."""
    running = suite.check("--users", "10", "--seconds", "6", "--seed", "1", background=True)
    time.sleep(3)
    kafka.stop()
    kafka.start()
    return expect_clean(finish_check(running), at_least=100)


def main():
    with Kafka() as kafka:
        strict = refused("--log", f"kafka://127.0.0.1:{kafka.port}")
        assert "msg" in strict, strict
        with Suite("--log", kafka.address) as suite:
            first = restarted_run(kafka, suite)
        with Suite("--processes", "--log", kafka.address + "&topics=processes-") as suite:
            apart = expect_clean(suite.check("--users", "10", "--seconds", "4", "--seed", "3"), at_least=20)
        short = refused("--log", kafka.address + "&acks=1")
        assert "acks" in short, short
    summary(
        f"acked {first['acked']} (server restarted) + {apart['acked']} (processes), "
        f"nothing lost, doubled, reordered; p99 {first['latency_ms']['p99']} ms")


main()
