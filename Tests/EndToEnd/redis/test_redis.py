"""The suite with presence and the hot store in Redis: a clean check, one with Redis killed -9 and back empty in the middle, and
one with Redis stopped for six seconds. Nothing accepted is lost; presence comes back from the Logins."""
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
from harness import Suite, expect_clean, finish_check, summary


class Redis:
    """A redis-server of its own, which forgets everything when it ends."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="martlet-redis-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, "--save", "",
             "--logfile", os.path.join(self.folder, "log")])
        for _ in range(200):
            if self.cli("PING").strip() == "PONG":
                return self
            time.sleep(0.02)
        raise RuntimeError("redis-server does not answer")

    def cli(self, *words):
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout

    def keys(self, pattern):
        return self.cli("--scan", "--pattern", pattern).split("\n")[:-1]

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    with Redis() as redis, Suite("--presence", redis.url, "--hot", redis.url) as suite:
        clean = expect_clean(suite.check("--users", "30", "--seconds", "4", "--seed", "1"), at_least=100)
        rows = redis.keys("m:h{*}:*")
        assert len(rows) > 10, f"the hot store holds {len(rows)} conversations"

        running = suite.check("--users", "30", "--seconds", "10", "--seed", "2", background=True)
        time.sleep(4)
        before = redis.keys("m:p{*}u:*")
        assert len(before) >= 30, f"presence holds {len(before)} users"
        redis.kill()
        time.sleep(1)
        redis.start()
        for _ in range(100):
            again = redis.keys("m:p{*}u:*")
            if len(again) >= 30:
                break
            time.sleep(0.05)
        assert len(again) >= 30, f"of {len(before)} users {len(again)} came back"
        killed = expect_clean(finish_check(running), at_least=100)

        running = suite.check("--users", "30", "--seconds", "10", "--seed", "3", background=True)
        time.sleep(3)
        redis.signal(signal.SIGSTOP)
        time.sleep(6)
        redis.signal(signal.SIGCONT)
        stopped = expect_clean(finish_check(running), at_least=100)
    summary(
        f"acked {clean['acked']} + {killed['acked']} (Redis killed, back empty) + {stopped['acked']} (stopped for 6 s), "
        "nothing lost")


main()
