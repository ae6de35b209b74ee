"""The systemd units of Deploy: systemd finds nothing wrong with them, and what they start is a working suite.

Nothing is installed: the units' own command lines run here, on the sample topology with free ports and another folder.
"""
import configparser
import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness
from harness import expect_clean, finish_check, summary

DEPLOY = harness.ROOT / "Deploy"
UNITS = DEPLOY / "systemd"
PROGRAM = "/usr/lib/martlet/martlet"
TOPOLOGY = "/etc/martlet/topology.json"


class Unit(configparser.RawConfigParser):
    """A unit's file; keys keep their case, and one that stands there again keeps its last value."""

    def __init__(self, name):
        super().__init__(strict=False)
        self.optionxform = str
        self.read_string((UNITS / name).read_text())

    @property
    def command(self):
        return shlex.split(self["Service"]["ExecStart"])


def topology_names():
    return [service["name"] for service in json.loads((DEPLOY / "config" / "topology.json").read_text())["services"]]


def wanted_names():
    """The services that martlet.target starts."""
    lines = (UNITS / "martlet.target").read_text().splitlines()
    return [line.removeprefix("Wants=martlet@").removesuffix(".service") for line in lines if line.startswith("Wants=")]


def verified():
    """systemd reads every unit without a word; True when there is a systemd to ask."""
    if not shutil.which("systemd-analyze"):
        return False
    with tempfile.TemporaryDirectory() as folder:
        for unit in UNITS.iterdir():
            # systemd looks whether the programs are there.
            text = unit.read_text().replace(PROGRAM, str(pathlib.Path(harness.MARTLET).resolve()))
            pathlib.Path(folder, unit.name).write_text(text)
        names = ["martlet.service", "martlet@im-1.service", "martlet.target"]
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", *(f"{folder}/{name}" for name in names)], capture_output=True,
            text=True, timeout=60, env={**os.environ, "SYSTEMD_UNIT_PATH": folder + ":"})
        said = [line for line in done.stderr.splitlines() if "artlet" in line or folder in line]
        assert done.returncode == 0 and not said, done.stderr
        pathlib.Path(folder, "martlet.service").write_text("[Service]\nExecStart=/nowhere\nNoSuchKey=1\n")
        spoilt = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", f"{folder}/martlet.service"], capture_output=True, text=True, timeout=60)
        assert spoilt.returncode != 0, "systemd-analyze finds nothing wrong with anything"
    return True


def read_by_us():
    """What systemd cannot know: names that have to fit each other."""
    one, each = Unit("martlet.service"), Unit("martlet@.service")
    assert one.command == [PROGRAM, "up", "--data", "/var/lib/martlet", "$MARTLET_OPTIONS"], one.command
    assert each.command == [PROGRAM, "serve", "%i", "--topology", TOPOLOGY], each.command
    assert json.loads((DEPLOY / "config" / "topology.json").read_text())["data"] == "/var/lib/martlet"
    assert wanted_names() == topology_names(), "martlet.target and the topology name different services"
    for unit in (one, each):
        service = unit["Service"]
        # The account, the folder and what is kept from the rest of the machine, the same in both.
        assert service["User"] == "martlet" and service["StateDirectory"] == "martlet"
        for key in ("ProtectSystem", "NoNewPrivileges", "SystemCallFilter", "RestrictAddressFamilies"):
            assert service[key] == one["Service"][key] != "", key
    assert "u martlet" in (UNITS / "martlet.sysusers").read_text()


def free_ports(count):
    holders = [socket.socket() for _ in range(count)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


class Separate:
    """martlet.target without systemd: every unit's command at once, in a folder where nothing is yet."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        topology = json.loads((DEPLOY / "config" / "topology.json").read_text())
        ports = free_ports(len(topology["services"]) + 3)
        topology["data"] = str(self.folder / "data")
        topology["httpPort"], topology["webSocketPort"], topology["tcpPort"] = ports[:3]
        for service, port in zip(topology["services"], ports[3:]):
            service["port"] = port
        self.tcp = ports[2]
        self.file = self.folder / "topology.json"
        self.file.write_text(json.dumps(topology))
        # StateDirectory= makes it.
        (self.folder / "data").mkdir(mode=0o700)
        self.processes = {name: self.start(name) for name in wanted_names()}

    def start(self, name):
        there = {PROGRAM: harness.MARTLET, TOPOLOGY: str(self.file), "%i": name}
        command = [there.get(word, word) for word in Unit("martlet@.service").command]
        with open(self.folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def until_reachable(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if (self.folder / "data" / "api-ready").exists():
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", self.tcp)) == 0:
                        return
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not ended, f"{ended} ended: {self.logs()}"
            time.sleep(0.05)
        raise AssertionError(f"not reachable within 60 s: {self.logs()}")

    def logs(self):
        return "\n".join(f"{log.stem}: {log.read_text(errors='replace')[-500:]}" for log in self.folder.glob("*.log"))

    def check(self, seconds):
        command = [harness.MARTLET, "check", "--json", "--server", f"127.0.0.1:{self.tcp}", "--users", "10", "--access",
                   str(self.folder / "data" / "demo.json"), "--seconds", str(seconds)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def again(self, name):
        """A service dies, and systemd would start it again."""
        self.processes[name].kill()
        self.processes[name].wait()
        self.processes[name] = self.start(name)

    def second_owner(self):
        """The data folder is the store's: nobody else may have it meanwhile."""
        done = subprocess.run(
            [harness.MARTLET, "up", "--data", str(self.folder / "data"), "--http-port", "0", "--tcp-port", "0",
             "--ws-port", "0", "--rpc-port", "0"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "in use" in done.stderr, done

    def stop(self):
        """systemctl stop: SIGTERM to all; each ends by itself."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        return {name: process.wait(30) for name, process in self.processes.items()}

    def kill(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def main():
    asked = verified()
    read_by_us()
    with tempfile.TemporaryDirectory() as folder:
        suite = Separate(folder)
        try:
            suite.until_reachable()
            suite.second_owner()
            running = suite.check(seconds=8)
            time.sleep(4)
            for name in ("im-1", "login-1"):
                suite.again(name)
            result = expect_clean(finish_check(running), at_least=50)
            ends = suite.stop()
            assert set(ends.values()) == {0}, f"exit codes: {ends}"
        finally:
            suite.kill()
    words = "systemd-analyze finds nothing wrong" if asked else "there is no systemd to ask"
    summary(f"{words}; {len(ends)} services by their units' command line, two killed; acked {result['acked']}")


main()
