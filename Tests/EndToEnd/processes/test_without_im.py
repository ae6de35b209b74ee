"""Route without IM: the sender gets service_unavailable, a stranger's service goes on working, and so does IM once it can
be started again, because the supervisor never gives up."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
import martlet_wire as wire
from harness import MARTLET, Suite, summary

SERVICES = ["login", "online", "route", "im", "user", "msgproxy", "msgwriter", "msgreader", "pushproxy", "pushserver",
            "pushworker", "api", "store"]


def programs(folder):
    """A program for every service, so that one of them can be taken away."""
    for role in SERVICES:
        path = folder / f"martlet-{role}"
        path.write_text(f'#!/bin/sh\nexec "{MARTLET}" serve "$@"\n')
        path.chmod(0o755)


def send(alice, text):
    """One send on a connection of its own turn; "accepted" or the reason."""
    talk = wire.pair("alice", "bob")
    item = wire.blob(1, wire.message_id(time.time() * 1000, len(text))) + wire.number(2, 1) + wire.blob(3, text)
    send.turn += 1
    return alice.outcomes(talk, wire.blob(1, talk) + wire.item(2, item), send.turn)[0]


send.turn = 0


def until(what, wanted, seconds):
    end = time.monotonic() + seconds
    while (got := what()) != wanted:
        assert time.monotonic() < end, f"still {got!r} after {seconds} s, wanted {wanted!r}"
        time.sleep(0.3)


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        programs(folder)
        with Suite("--processes", "--executables", str(folder)) as suite:
            echo = subprocess.Popen(
                [str(pathlib.Path(MARTLET).with_name("martlet-echo")), "--connect", f"127.0.0.1:{suite.ports['rpc']}",
                 "--secret-file", str(suite.folder / "cluster.secret"), "--name", "echo-1"], stderr=subprocess.DEVNULL)
            try:
                without_im(suite, folder / "martlet-im")
            finally:
                echo.kill()
                echo.wait()
    summary("without IM senders get service_unavailable and the stranger answers; IM is back once it can be started")


def without_im(suite, program):
    alice = suite.client("alice", "alice-phone")
    until(lambda: send(alice, "with IM"), "accepted", 15)
    until(lambda: ask_echo(alice), b"hello (echo-1)", 15)
    program.chmod(0o644)
    (pid,) = json.loads((suite.folder / "pids.json").read_text())["im"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: send(alice, "without IM"), "service_unavailable", 15)
    end = time.monotonic() + 10
    told = set()
    while time.monotonic() < end:
        told.add(send(alice, "without IM"))
        assert ask_echo(alice) == b"hello (echo-1)", "the stranger stopped working"
        time.sleep(0.2)
    assert told == {"service_unavailable"}, told
    assert "cannot start im-1" in suite.log.read_text(errors="replace"), "starting it was not even tried"
    program.chmod(0o755)
    until(lambda: send(alice, "with IM again"), "accepted", 20)
    alice.close()


def ask_echo(alice):
    try:
        return alice.ask(1000, 1, b"hello")
    except wire.Refused as refused:
        return refused.failure["reason"]


main()
