"""Whatever is wrong at start ends with one clear line that says what to do, and harms nothing."""
import pathlib
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import MARTLET, Suite, summary

PORTS = ["--tcp-port", "0", "--ws-port", "0", "--http-port", "0", "--rpc-port", "0"]


def refused(*arguments, says, code=1):
    """Runs `martlet up` with something wrong and returns its one line."""
    done = subprocess.run([MARTLET, "up", *arguments], capture_output=True, text=True, timeout=60)
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
    cases = [newer_folder, unwritable_folder, folder_in_use, taken_port, full_disk, missing_executables, wrong_option]
    for case in cases:
        case()
    summary(f"{len(cases)} ways to start wrongly, each told in one line")


main()
