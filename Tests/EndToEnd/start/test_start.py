"""Whatever is wrong at start ends with one clear line that says what to do, and harms nothing."""
import base64
import json
import os
import pathlib
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import MARTLET, Suite, summary

PORTS = ["--tcp-port", "0", "--ws-port", "0", "--http-port", "0", "--rpc-port", "0"]


def refused(*arguments, says, code=1, wrapper=()):
    """Runs `martlet up` with something wrong and returns its one line."""
    done = subprocess.run([*wrapper, MARTLET, "up", *arguments], capture_output=True, text=True, timeout=60)
    lines = [line for line in done.stderr.strip().splitlines() if line]
    assert done.returncode == code, f"exit {done.returncode}, wanted {code}: {done.stderr}"
    assert len(lines) == 1, f"wanted one line, got: {done.stderr}"
    for word in says:
        assert word in lines[0], f"{word!r} is not in {lines[0]!r}"
    return lines[0]


def newer_folder():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        (path / "format").write_text("99\n")
        refused("--data", folder, *PORTS, says=["newer Martlet", "99", "Upgrade"])
        assert (path / "format").read_text() == "99\n", "the newer folder was changed"


def unwritable_folder():
    # A folder that nobody can write, root included.
    refused("--data", "/proc/martlet", *PORTS, says=["cannot create", "--data"])


def read_only_folder():
    """A folder that is there, with a suite's data in it, on a file system that may not be written, root or not."""
    with Suite() as suite:
        suite.stop()
        before = sorted(path.name for path in suite.folder.iterdir())
        quoted = shlex.quote(str(suite.folder))
        shell = (f"mount --bind {quoted} {quoted} && mount -o remount,ro,bind {quoted} && exec \"$@\"")
        refused("--data", str(suite.folder), *PORTS, says=["cannot write", str(suite.folder), "--data"],
                wrapper=reader(suite.folder, shell))
        assert sorted(path.name for path in suite.folder.iterdir()) == before, "the folder was changed"
        suite.start()


def reader(folder, shell):
    """A wrapper under which the folder cannot be written: a read-only mount that nobody else sees; where mounting is not
    allowed, a user who may only read."""
    mount = ["unshare", "-m", "sh", "-c", shell, "sh"]
    if subprocess.run([*mount, "true"], capture_output=True).returncode == 0:
        return mount
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def emptied_by_a_power_cut():
    """Files that an older Martlet wrote without syncing them, as a power cut leaves them."""
    with Suite() as suite:
        suite.stop()
        for name in ("format", "demo.json"):
            (suite.folder / name).write_bytes(b"")
        suite.start()
        assert (suite.folder / "format").read_text() == "1\n"
        assert suite.demo()["users"], "new demo users"
        assert (suite.folder / "demo.json").stat().st_mode & 0o777 == 0o600
        # What is there and no number is damage, not a power cut.
        suite.stop()
        (suite.folder / "format").write_text("one\n")
        refused("--data", str(suite.folder), *PORTS, says=["format number", "backup"])
        (suite.folder / "format").write_text("1\n")
        suite.start()


def no_dead_letters():
    letters = [MARTLET, "ops", "dead-letters", "list", "--json"]
    with Suite() as suite:
        busy = subprocess.run([*letters, "--data", str(suite.folder)], capture_output=True, text=True)
        assert busy.returncode == 1 and "in use" in busy.stderr, busy
        suite.stop()
        done = subprocess.run([*letters, "--data", str(suite.folder)], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout == "", done
        with sqlite3.connect(suite.folder / "recent.sqlite") as database:
            database.execute("INSERT INTO dead(bucket, offset, bytes) VALUES(3, 17, ?)", (b"no record",))
        database.close()
        done = subprocess.run([*letters, "--data", str(suite.folder)], capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [base64.b64decode(line["bytes"]) for line in lines] == [b"no record"], done
        assert (lines[0]["bucket"], lines[0]["offset"]) == (3, 17), lines
        export = suite.folder / "letters.jsonl"
        for code in (0, 1):
            done = subprocess.run(
                [MARTLET, "ops", "dead-letters", "export", str(export), "--data", str(suite.folder)],
                capture_output=True, text=True)
            assert done.returncode == code and (code == 0 or "[file]" in done.stderr), done
            assert [json.loads(line) for line in export.read_text().splitlines()] == lines, export.read_text()
        assert export.stat().st_mode & 0o777 == 0o600, oct(export.stat().st_mode)
        export.unlink()
        suite.start()


def without_a_page():
    """A program far from the page's files runs, and says at once that there is no page."""
    with tempfile.TemporaryDirectory() as folder:
        alone = pathlib.Path(folder) / "martlet"
        shutil.copy(MARTLET, alone)
        environment = {name: value for name, value in os.environ.items() if name != "MARTLET_WEB"}
        ready = pathlib.Path(folder) / "ready.json"
        suite = subprocess.Popen(
            [str(alone), "up", "--data", f"{folder}/data", "--ready-file", str(ready), *PORTS], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            banner = ""
            while "stop with Ctrl-C" not in banner:
                line = suite.stdout.readline()
                assert line, f"it ended: {banner}"
                banner += line
            assert "no chat page" in banner and "MARTLET_WEB" in banner, banner
        finally:
            suite.terminate()
            suite.wait(20)


def folder_in_use():
    with Suite() as suite:
        refused("--data", str(suite.folder), *PORTS, says=["in use", str(suite.process.pid), "--data"])


def taken_port():
    with socket.socket() as holder, tempfile.TemporaryDirectory() as folder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        for name in ("tcp", "ws", "http", "rpc"):
            ports = list(PORTS)
            ports[ports.index(f"--{name}-port") + 1] = port
            refused("--data", folder, *ports, says=[port, "in use", f"--{name}-port"])


def full_disk():
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True)
        if mounted.returncode != 0:
            # Without the right to mount, /dev/full stands in for the probe's file.
            pathlib.Path(folder, "space-probe").symlink_to("/dev/full")
        try:
            refused("--data", folder, *PORTS, says=["full", "Free"])
        finally:
            if mounted.returncode == 0:
                subprocess.run(["umount", folder], check=True)


def missing_executables():
    with tempfile.TemporaryDirectory() as folder:
        programs = pathlib.Path(folder, "programs")
        programs.mkdir()
        refused("--data", folder, "--processes", "--executables", str(programs), *PORTS,
                says=[f"{programs}/martlet-store", "make release"])
        assert not pathlib.Path(folder, "pids.json").exists(), "a service was started"


def wrong_option():
    done = subprocess.run([MARTLET, "up", "--no-such"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 64 and "--no-such" in done.stderr, done


def main():
    cases = [newer_folder, unwritable_folder, read_only_folder, folder_in_use, taken_port, full_disk,
             missing_executables, wrong_option]
    for case in cases:
        case()
    emptied_by_a_power_cut()
    without_a_page()
    no_dead_letters()
    summary(f"{len(cases)} ways to start wrongly, each told in one line; files emptied by a power cut are made again")


main()
