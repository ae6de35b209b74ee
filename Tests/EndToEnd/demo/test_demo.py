"""The demo of `martlet up`: its passwords work where only this machine hears them; its files are made and mended."""
import json
import pathlib
import re
import stat
import socket
import sys
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import Suite, expect_clean, summary


def log_in(suite):
    """(status, reason or token) of a login as alice."""
    body = json.dumps({"user": "alice", "password": suite.demo()["users"]["alice"]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{suite.ports['http']}/demo/login", body)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)["token"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["reason"]


def switched(*arguments, on, says, says_not):
    """A suite with these options has the demo login on or off, and its banner says so."""
    with Suite(*arguments) as suite:
        status, what = log_in(suite)
        assert (status == 200) == on, f"{arguments}: {status} {what}"
        assert on or (status, what) == (404, "not_found"), f"{arguments}: {status} {what}"
        # Whoever has the data folder gets in all the same: tools issue tokens with the app's key.
        expect_clean(suite.check("--users", "2", "--seconds", "1"))
        banner = suite.log.read_text()
        password = suite.demo()["users"]["alice"]
        assert says in banner and says_not not in banner, banner
        assert (password in banner) == on, f"{arguments}: passwords are printed exactly where they work: {banner}"


def mended_files():
    """A lost secret file is made again from demo.json; the demo's key is named as keys are documented."""
    with Suite() as suite:
        demo = suite.demo()
        assert re.fullmatch(r"demo\.[a-z0-9]{8}", demo["key_id"]), demo["key_id"]
        file = suite.folder / "cluster.secret"
        for harm in (file.unlink, lambda: file.write_text("another")):
            suite.stop()
            harm()
            suite.start()
            assert file.read_text() == demo["cluster_secret"]
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert suite.demo() == demo
        assert not [path.name for path in suite.folder.iterdir() if ".json." in path.name or ".secret." in path.name]


def unused_port():
    """Separate processes do not listen on --rpc-port, so somebody else may."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        suite = Suite("--processes", "--no-demo-login")
        suite.ports["rpc"] = holder.getsockname()[1]
        with suite:
            assert log_in(suite) == (404, "not_found")
            expect_clean(suite.check("--users", "2", "--seconds", "1"))


def main():
    switched(on=True, says="log in as", says_not="demo login")
    switched("--no-demo-login", on=False, says="demo login  off, as it is not wanted", says_not="log in as")
    # Listens everywhere for a moment, with the demo login off; that is what is tested.
    switched("--host", "0.0.0.0", on=False, says="demo login  off, as other machines reach 0.0.0.0", says_not="log in as")
    mended_files()
    unused_port()
    summary("demo login on, off, and off where others listen; files mended; a port that is not used is not wanted")


main()
