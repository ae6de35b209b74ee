"""The suite from programs of the services' own names, as `make release` leaves them: each runs, and a check finds nothing
wrong. MARTLET_DIST is such a folder; without it one is made from the program that the other tests use."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness
from harness import Suite, expect_clean, summary

SECONDS = os.environ.get("MARTLET_CHECK_SECONDS", "10")


def running(suite):
    """Service -> what its processes were started as."""
    pids = json.loads((suite.folder / "pids.json").read_text())
    started = lambda pid: pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    return {role: {started(pid) for pid in each} for role, each in pids.items()}


def wrong_service(suite, dist):
    """A name is one service: it says so when it is asked to be another."""
    topology = str(suite.folder / "topology.json")
    done = subprocess.run(
        [str(dist / "martlet-login"), "im-1", "--topology", topology], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Start it with martlet-im" in done.stderr, done


def made(folder):
    """A release folder in miniature: the same links and page around a program that was built for debugging."""
    shutil.copy2(harness.MARTLET, folder / "martlet")
    subprocess.run([harness.ROOT / "Deploy" / "release.sh", "--link", folder], check=True, timeout=60)
    return folder


def moved(dist):
    """The folder may be copied anywhere: nothing in it names the place where it was made, and it is as large as before."""
    copy = dist.parent / (dist.name + "-copy")
    subprocess.run(["cp", "-r", dist, copy], check=True)
    try:
        sizes = [sum(file.lstat().st_size for file in each.rglob("*")) for each in (dist, copy)]
        assert sizes[0] == sizes[1] < 2 * (dist / "martlet").stat().st_size, sizes
        done = subprocess.run([copy / "martlet-im", "--help"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "The service im" in done.stdout, done
    finally:
        shutil.rmtree(copy)


def main():
    with tempfile.TemporaryDirectory() as folder:
        own = os.environ.get("MARTLET_DIST")
        run(pathlib.Path(own).resolve() if own else made(pathlib.Path(folder) / ""))


def run(dist):
    moved(dist)
    harness.MARTLET = str(dist / "martlet")
    with Suite("--processes", "--executables", str(dist)) as suite:
        found = running(suite)
        assert len(found) == 13, f"services: {sorted(found)}"
        for role, programs in found.items():
            assert programs == {str(dist / f"martlet-{role}")}, f"{role} runs {programs}"
        wrong_service(suite, dist)
        result = expect_clean(suite.check("--users", "20", "--seconds", SECONDS, "--seed", "8"), at_least=100)
    summary(f"{len(found)} services under their own names; acked {result['acked']}, nothing wrong")


main()
