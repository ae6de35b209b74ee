"""The suite from the services' own executables, as `make release` leaves them: each runs, and a check finds nothing wrong."""
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness
from harness import Suite, expect_clean, summary

DIST = pathlib.Path(os.environ.get("MARTLET_DIST", str(harness.ROOT / ".build" / "dist"))).resolve()
SECONDS = os.environ.get("MARTLET_CHECK_SECONDS", "10")


def running(suite):
    """Service -> programs that its processes are, as the kernel names them."""
    pids = json.loads((suite.folder / "pids.json").read_text())
    return {role: {os.readlink(f"/proc/{pid}/exe") for pid in each} for role, each in pids.items()}


def wrong_service(suite):
    """An executable is one service: it says so when it is asked to be another."""
    topology = str(suite.folder / "topology.json")
    done = subprocess.run(
        [str(DIST / "martlet-login"), "im-1", "--topology", topology], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "Start it with martlet-im" in done.stderr, done


def main():
    harness.MARTLET = str(DIST / "martlet")
    with Suite("--processes", "--executables", str(DIST)) as suite:
        found = running(suite)
        assert len(found) == 13, f"services: {sorted(found)}"
        for role, programs in found.items():
            assert programs == {str(DIST / f"martlet-{role}")}, f"{role} runs {programs}"
        wrong_service(suite)
        result = expect_clean(suite.check("--users", "20", "--seconds", SECONDS, "--seed", "8"), at_least=100)
    summary(f"{len(found)} services of their own executables; acked {result['acked']}, nothing wrong")


main()
