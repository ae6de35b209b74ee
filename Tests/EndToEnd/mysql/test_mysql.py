"""The suite with its messages, users and user index in MariaDB: in one process over two shards with MariaDB killed -9 and
restarted in the middle of a check, and as separate processes with MsgWriter, MsgReader, User and MariaDB killed. Nothing
accepted is lost or doubled, and what the database holds afterwards is dense."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import MARTLET, Suite, expect_clean, finish_check, summary
from servers import MariaDB, expect_dense

SECONDS = os.environ.get("MARTLET_CHECK_SECONDS", "20")


def one_process(server):
    server.make("users", "shard0", "shard1")
    options = ["--recent", server.url("shard0", "shard1"), "--relational", server.url("users")]
    with Suite(*options) as suite:
        clean = expect_clean(suite.check("--users", "30", "--seconds", "4", "--seed", "1"), at_least=100)
        assert min(expect_dense(server, name) for name in ("shard0", "shard1")) > 0, "a shard has no rows"
        running = suite.check("--users", "30", "--seconds", SECONDS, "--seed", "2", background=True)
        time.sleep(4)
        server.kill()
        time.sleep(2)
        server.start()
        killed = expect_clean(finish_check(running), at_least=100)
        running = suite.check("--users", "30", "--seconds", "16", "--seed", "3", background=True)
        time.sleep(3)
        server.signal(signal.SIGSTOP)
        time.sleep(6)
        server.signal(signal.SIGCONT)
        stopped = expect_clean(finish_check(running), at_least=100)
        rows = expect_dense(server, "shard0", "shard1")
        # Back from a kill -9: the map, the positions and the rows are the databases'.
        suite.kill()
        suite.start()
        again = expect_clean(suite.check("--users", "20", "--seconds", "4", "--seed", "4"), at_least=50)
        assert expect_dense(server, "shard0", "shard1") >= rows
    return [clean, killed, stopped, again]


def processes(server):
    server.make("all_in_one")
    url = server.url("all_in_one")
    with Suite("--processes", "--recent", url, "--relational", url) as suite:
        arguments = ["--users", "20", "--seconds", "30", "--seed", "5", "--rate", "3"]
        services = "msgwriter,msgreader,user,msgwriter,store"
        running = suite.check(
            *arguments, "--kill", services, "--pids", str(suite.folder / "pids.json"), background=True)
        time.sleep(12)
        server.kill()
        time.sleep(1)
        server.start()
        killed = expect_clean(finish_check(running), at_least=100)
        assert killed["kills"] == 5, killed["kills"]
        expect_dense(server, "all_in_one")
    return [killed]


def refusals(server):
    """What is wrong is told in one line."""
    server.make("newer", "empty")
    folder = tempfile.mkdtemp(prefix="martlet-e2e-")
    try:
        with Suite("--recent", server.url("newer")):
            pass
        server.sql("INSERT INTO schema_version(family, version, checksum) VALUES('recent', 2, 7)", "newer")
        wrong = server.url("empty").replace(server.password, "wrong")
        for url, words in [(server.url("newer"), "newer Martlet"), (wrong, "does not let us in"),
                           (server.url("absent"), "does not let us in"), ("mysql://", "no address"),
                           (server.url("newer", "empty"), "relational")]:
            for mode in ([], ["--processes"]):
                done = subprocess.run(
                    [MARTLET, "up", "--data", folder, "--http-port", "0", "--ws-port", "0", "--tcp-port", "0",
                     "--rpc-port", "0", "--recent", url, *mode], capture_output=True, text=True, timeout=60)
                lines = done.stderr.strip().splitlines()
                assert done.returncode == 1 and len(lines) == 1 and words in lines[0], (url, done.returncode, done.stderr)
                assert server.password not in done.stderr
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    with MariaDB() as server:
        refusals(server)
        single = one_process(server)
        several = processes(server)
    acked = [result["acked"] for result in single + several]
    summary(f"acked {' + '.join(map(str, acked))} with MariaDB killed, stopped, and MsgWriters killed; nothing lost or doubled")


main()
