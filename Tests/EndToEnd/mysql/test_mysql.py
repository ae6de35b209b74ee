"""The suite with its messages, users and user index in MariaDB: in one process over two shards with MariaDB killed -9 and
restarted in the middle of a check, and as separate processes with MsgWriter, MsgReader, User and MariaDB killed. Nothing
accepted is lost or doubled, and what the database holds afterwards is dense. Beside that what `martlet ops` does to databases:
layouts, shards added and buckets moved while people chat, the tiers compared."""
import base64
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from backends import MariaDB, Redis, expect_dense
from harness import MARTLET, Suite, expect_clean, finish_check, ops, summary

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
        assert expect_dense(server, "all_in_one") > 0, "the processes stored somewhere else"
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


def migrated(server, shards, users):
    """Looking changes nothing; applying twice, and two at a time, is the same as once."""
    where = ["--recent", shards, "--relational", users]
    [found] = ops("migrate", *where, "--dry-run")
    assert [base["pending"] for base in found["databases"]] == [[1], [1], [1]], found
    assert any("CREATE TABLE" in text for text in found["databases"][0]["statements"]), found
    assert server.sql("SHOW TABLES", "move0") == "", "a dry run changed something"
    command = [MARTLET, "ops", "migrate", "--apply", "--json", *where]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and not any(base["pending"] for base in json.loads(out)["databases"]), out
    assert ops("migrate", *where, "--apply")[0]["migrated"] == []
    said = ops("migrate", "--recent", "mysql://nobody@127.0.0.1:1/none", code=1)
    assert "[unreachable]" in said, said


def holders(where):
    """Bucket -> shards that hold it, and bucket -> shards that it has left."""
    [found] = ops("shards", "list", *where)
    here, gone = {}, {}
    for shard in found["shards"]:
        for bucket in shard["buckets"]:
            (gone if bucket["state"] == "gone" else here).setdefault(bucket["bucket"], []).append(shard["shard"])
    return here, gone


def killed_in_the_middle(where):
    """kill -9 of the mover as soon as it has fenced a bucket: that one is fenced, or just through."""
    mover = subprocess.Popen(
        [MARTLET, "ops", "shards", "move", "--to", "1", "--yes", *where], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True)
    for line in mover.stderr:
        if "fenced" in line:
            mover.kill()
            break
    assert mover.wait(30) == -signal.SIGKILL, "the mover was done before it was killed"


def moved(server):
    """All buckets go to the other shard while people chat; the mover is killed in the middle and run again."""
    server.make("move_users", "move0", "move1", "move2")
    shards, users = server.url("move0", "move1"), server.url("move_users")
    migrated(server, shards, users)
    where = ["--recent", shards, "--relational", users]
    with Suite(*where) as suite:
        first = expect_clean(suite.check("--users", "30", "--seconds", "3", "--seed", "6"), at_least=100)
        here, _ = holders(where)
        assert sorted(here) == list(range(8)) and {home[0] for home in here.values()} == {0, 1}, here
        assert len(ops("shards", "move", "--to", "1", "--dry-run", *where)) == 4
        said = ops("shards", "move", "--to", "1", *where, code=1)
        assert "[unconfirmed]" in said, said
        running = suite.check("--users", "30", "--seconds", "10", "--seed", "7", background=True)
        time.sleep(2)
        killed_in_the_middle(where)
        here, _ = holders(where)
        assert any(0 in home for home in here.values()), "nothing was left to do"
        time.sleep(1)
        done = ops("shards", "move", "--to", "1", "--yes", *where)
        assert done and all(step["to"] == 1 for step in done), done
        here, gone = holders(where)
        assert here == {bucket: [1] for bucket in range(8)}, here
        assert ops("shards", "move", "--to", "1", "--yes", *where) == [], "there was something to move"
        result = expect_clean(finish_check(running), at_least=100)
        pauses = [step["pause_ms"] for step in done]
        # All rows are where the map says, once.
        expect_dense(server, "move1")
        removed = ops("shards", "clean", "--shard", "0", "--yes", *where)
        assert {step["bucket"] for step in removed} == set(gone) and len(gone) == 4, (removed, gone)
        assert server.sql("SELECT count(*) FROM messages", "move0").strip() == "0"
        again = expect_clean(suite.check("--users", "20", "--seconds", "2", "--seed", "8"), at_least=50)
        added(server, suite, users)
    dead_letters(server)
    return [first, result, again], max(pauses)


def added(server, suite, users):
    """A shard more, at the end and nowhere else; services that are started again with it serve buckets there."""
    where = ["--recent", server.url("move0", "move1", "move2"), "--relational", users]
    assert ops("shards", "add", "--dry-run", *where)[0]["added"] == [2]
    assert ops("shards", "add", *where)[0]["added"] == [2]
    assert ops("shards", "add", *where)[0]["added"] == []
    turned = ["--recent", server.url("move1", "move0"), "--relational", users]
    assert "[refused]" in ops("shards", "add", *turned, code=1)
    assert "[options]" in ops("shards", "move", "--to", "3", "--yes", *where, code=1)
    suite.stop()
    suite.arguments = where
    suite.start()
    ops("shards", "move", "--to", "2", "--bucket", "0-3", "--yes", *where)
    expect_clean(suite.check("--users", "10", "--seconds", "2", "--seed", "9"), at_least=20)
    assert expect_dense(server, "move2") > 0, "the new shard has no rows"


def verified(server):
    """The tiers agree while people chat; a row that is changed behind everybody's back is named, wherever it is."""
    server.make("same_users", "same0", "same1")
    with Redis() as redis:
        databases = ["--recent", server.url("same0", "same1"), "--relational", server.url("same_users")]
        where = [*databases, "--hot", redis.url]
        with Suite(*where) as suite:
            running = suite.check("--users", "20", "--seconds", "5", "--seed", "10", background=True)
            for _ in range(3):
                time.sleep(1)
                [found] = ops("verify", *where)
                assert found["wrong"] == 0, found
            result = expect_clean(finish_check(running), at_least=100)
        [found] = ops("verify", *where)
        assert found["wrong"] == 0 and found["rows"]["recent"] >= result["acked"] and found["rows"]["hot"] > 100, found
        name = "SELECT no, name FROM conversations WHERE seq BETWEEN 5 AND 150 ORDER BY no LIMIT 2"
        (number, gone), (_, changed) = (line.split("\t") for line in server.sql(name, "same0").splitlines())
        server.sql(f"DELETE FROM messages WHERE conv = {number} AND seq = 3", "same0")
        [key] = redis.keys(f"m:h{{*}}:*:{changed}")
        script = "redis.call('LSET',KEYS[1],1,string.sub(redis.call('LINDEX',KEYS[1],1),1,-2)..'#')"
        redis.cli("EVAL", script, "1", key)
        command = [MARTLET, "ops", "verify", "--json", *where]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and "[unequal]" in done.stderr, done
        damage = {(one["tier"], one["conversation"], one["seq"]) for one in json.loads(done.stdout)["differences"]}
        # The cache still has the row that is missing, which is told as well.
        assert damage == {("recent", gone, 3), ("hot", gone, 3), ("hot", changed, 2)}, damage
        words = subprocess.run(command[:3] + where, capture_output=True, text=True, timeout=60).stdout
        assert "3 differences" in words and f"{gone} seq 3: is missing" in words, words


def dead_letters(server):
    server.sql("INSERT INTO dead_letters VALUES(5, 17, 0, 'no record')", "move1")
    where = ["--recent", server.url("move0", "move1"), "--relational", server.url("move_users")]
    [letter] = ops("dead-letters", "list", *where)
    assert (letter["shard"], letter["bucket"], letter["offset"]) == (1, 5, 17), letter
    assert base64.b64decode(letter["bytes"]) == b"no record", letter


def main():
    with MariaDB() as server:
        refusals(server)
        shifted, pause = moved(server)
        verified(server)
        single = one_process(server)
        several = processes(server)
    acked = [result["acked"] for result in shifted + single + several]
    summary(f"acked {' + '.join(map(str, acked))} with buckets moved (longest pause {pause:.0f} ms), the mover killed, MariaDB "
            "killed, stopped, and MsgWriters killed; nothing lost or doubled")


main()
