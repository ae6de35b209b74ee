"""Every service a process of its own; each in turn is killed with -9 while clients send, and nothing is lost."""
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import Suite, expect_clean, summary

SERVICES = os.environ.get(
    "MARTLET_KILL",
    "login,online,route,im,user,msgproxy,msgwriter,msgreader,pushproxy,pushserver,pushworker,api,store",
)
USERS = os.environ.get("MARTLET_CHECK_USERS", "20")
SECONDS = os.environ.get("MARTLET_CHECK_SECONDS", "45")
KILLS = os.environ.get("MARTLET_KILLS", "")


def main():
    with Suite("--processes") as suite:
        quiet = expect_clean(suite.check("--users", USERS, "--seconds", "4", "--seed", "5"), at_least=50)
        arguments = ["--users", USERS, "--seconds", SECONDS, "--seed", "6", "--rate", "3"]
        arguments += ["--kill", SERVICES, "--pids", str(suite.folder / "pids.json")]
        if KILLS:
            arguments += ["--kills", KILLS]
        killed = expect_clean(suite.check(*arguments), at_least=100)
        wanted = int(KILLS or len(SERVICES.split(",")))
        assert killed["kills"] == wanted, f"{killed['kills']} kills, wanted {wanted}"
    summary(f"acked {quiet['acked']}, then {killed['acked']} over {killed['kills']} kills; nothing lost or doubled")


main()
