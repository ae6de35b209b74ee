"""A stranger's service, built on the ServiceSDK alone: run twice, killed, drained, and nobody else notices."""
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import MARTLET, Suite, summary

ECHO = str(pathlib.Path(MARTLET).with_name("martlet-echo"))


class Chat:
    """`martlet chat` in its plain mode: lines in, lines out."""

    def __init__(self, suite, user, to):
        self.process = subprocess.Popen(
            [MARTLET, "chat", "--user", user, "--to", to, "--server", suite.server, "--data", str(suite.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.lines = []
        threading.Thread(target=self.read, daemon=True).start()
        self.wait(f"online {user}")

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait(self, start, seconds=10):
        """Waits for a line with this beginning and takes everything up to it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for index, line in enumerate(self.lines):
                if line.startswith(start):
                    del self.lines[: index + 1]
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no line {start!r} within {seconds} s; there are {self.lines}")

    def say(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def close(self):
        self.say("/quit")
        assert self.process.wait(10) == 0, "chat did not end well"


def echo(suite, name):
    return subprocess.Popen(
        [ECHO, "--connect", f"127.0.0.1:{suite.ports['rpc']}", "--secret-file", str(suite.folder / "cluster.secret"),
         "--app", "demo", "--svid", "1000", "--name", name], stderr=subprocess.DEVNULL)


def who_answers(chat, word, times=8):
    """The instances that answered so many requests, every one of which was answered."""
    names = set()
    for number in range(times):
        chat.say(f"/svc 1000 1 {word} {number}")
        names.add(re.search(r"\((\S+)\)", chat.wait(f"answer 1000 {word} {number}")).group(1))
    return names


def main():
    with Suite() as suite:
        alice, bob = Chat(suite, "alice", "bob"), Chat(suite, "bob", "alice")
        time.sleep(3.5)  # Route's first three seconds, in which it answers "retry" for what it has not heard of.
        alice.say("/svc 1000 1 nobody there")
        assert "no_such_service" in alice.wait("error")
        first, second = echo(suite, "echo-1"), echo(suite, "echo-2")
        try:
            time.sleep(3)
            assert who_answers(alice, "hello") == {"echo-1", "echo-2"}, "requests are not balanced"
            alice.say("/svc 1000 4 knock")
            alice.wait("event 1000 echo knock")
            alice.say("/svc 1000 3 1 the tea is ready")
            assert "the tea is ready" in alice.wait("notice", 15)
            first.send_signal(signal.SIGKILL)
            first.wait()
            assert who_answers(alice, "still") == {"echo-2"}
            alice.say("hello bob")
            assert "hello bob" in bob.wait("message")
            first = echo(suite, "echo-1")
            deadline = time.monotonic() + 15
            while who_answers(alice, "again") != {"echo-1", "echo-2"}:
                assert time.monotonic() < deadline, "the restarted instance answers nothing"
            second.send_signal(signal.SIGTERM)
            assert second.wait(20) == 0, "the service did not drain"
            alice.say("good night")
            assert "good night" in bob.wait("message")
        finally:
            for process in (first, second):
                if process.poll() is None:
                    process.kill()
                process.wait()
        alice.close()
        bob.close()
    summary("requests, push, notify, two instances that both answer, one killed and started again, one drained")


main()
