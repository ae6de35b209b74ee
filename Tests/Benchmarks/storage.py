#!/usr/bin/env python3
"""The storage path on real servers: MsgProxy -> Kafka's protocol -> MsgWriter -> MariaDB and Redis, all services as processes, with
1, 2 and 4 MsgWriters; beside it the same rows as multi-row INSERTs by the mariadb client, pages of history from each tier, and
what a message costs in each. One JSON object on the last line of stdout. Docs/benchmarks.md explains the figures.
    Tests/Benchmarks/storage.py [--short]
MARTLET names the program (BUILD its kind, where its path does not say); SECONDS_EACH, PAIRS, WRITERS (1,2,4) and ROWS (of the baseline) change the size. --short is the form of
`make test`: small, with assertions."""
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "Tests" / "EndToEnd"))
from backends import Kafka, MariaDB, Redis
from harness import MARTLET, Suite, summary

SHORT = "--short" in sys.argv[1:]
SECONDS_EACH = int(os.environ.get("SECONDS_EACH", "2" if SHORT else "10"))
PAIRS = int(os.environ.get("PAIRS", "5" if SHORT else "1000"))
# The short form takes the load before the reading, which has two.
WRITERS = [] if SHORT else [int(number) for number in os.environ.get("WRITERS", "1,2,4").split(",")]
ROWS = int(os.environ.get("ROWS", "3000" if SHORT else "100000"))
# Rows of one INSERT, and connections, of the baseline.
BATCH = 100
CONNECTIONS = (1, 4)
# A page, and how far below the newest row one begins that the hot store does not have: it keeps up to 264.
PAGE, BELOW = 50, 270
TICKS = os.sysconf("SC_CLK_TCK")
COLUMNS = "conv, seq, month, n, time, sender, flags, target, body"


def say(text):
    print(text, file=sys.stderr, flush=True)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class World:
    """The servers of one run."""

    def __init__(self, kafka, presence, hot, server):
        self.kafka, self.presence, self.hot, self.server = kafka, presence, hot, server

    def backends(self, name):
        """Options for a suite of its own on these servers: its topics, two empty databases, empty Redis."""
        self.server.make(f"{name}_messages", f"{name}_users")
        for redis in (self.presence, self.hot):
            redis.cli("FLUSHALL")
        return {"--log": self.kafka.address(name), "--recent": self.server.url(f"{name}_messages"),
                "--relational": self.server.url(f"{name}_users"), "--presence": self.presence.url, "--hot": self.hot.url}

    def parts(self):
        """What is no service of Martlet's, for CPU."""
        processes = {"kafka": self.kafka, "redis-presence": self.presence, "redis-hot": self.hot, "mariadb": self.server}
        return [word for name, part in processes.items() for word in ("--part", f"{name}={part.process.pid}")]


def bench(suite, *arguments):
    """Runs `martlet bench`; its JSON."""
    command = [MARTLET, "bench", *arguments, "--json", "--server", suite.server, "--access", str(suite.folder / "demo.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    for line in done.stderr.splitlines():
        say(f"  {line}")
    if done.returncode != 0:
        raise RuntimeError(f"martlet bench {arguments[0]} ended with {done.returncode}\n{suite.tail(60)}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def store(world, suite, options, pairs, seconds, depth):
    return bench(
        suite, "storage", "--pairs", str(pairs), "--seconds", str(seconds), "--depth", str(depth), "--bytes", "100",
        "--recent", options["--recent"], "--pids", str(suite.folder / "pids.json"), *world.parts())


def started(options, writers):
    words = [word for pair in options.items() for word in pair]
    return Suite("--processes", "--count", f"msgwriter={writers}", *words)


def stored_with(world, writers):
    """One load with that many MsgWriters."""
    say(f"== {writers} MsgWriters")
    options = world.backends(f"w{writers}")
    with started(options, writers) as suite:
        pids = json.loads((suite.folder / "pids.json").read_text())
        assert len(pids["msgwriter"]) == writers, pids
        return store(world, suite, options, PAIRS, SECONDS_EACH, 8)


# ---- the baseline

def statements(server, database):
    """The stored rows as INSERTs of so many rows each, and how many rows that is."""
    listed = server.sql(
        f"SELECT conv, seq, month, n, time, hex(sender), flags, target, hex(body) FROM messages LIMIT {ROWS}", database)
    rows = []
    for line in listed.splitlines():
        conv, seq, month, n, when, sender, flags, target, body = line.split("\t")
        rows.append(f"({conv},{seq},{month},{n},{when},x'{sender}',{flags},{target},x'{body}')")
    head = f"INSERT INTO messages({COLUMNS}) VALUES "
    return [head + ",".join(rows[at:at + BATCH]) + ";\n" for at in range(0, len(rows), BATCH)], len(rows)


def inserted(server, lines, rows, connections):
    """The statements, each a transaction, shared out over the connections of as many mariadb clients."""
    server.sql("TRUNCATE messages", "baseline")
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder) / str(number) for number in range(connections)]
        for number, file in enumerate(files):
            file.write_text("".join(lines[number::connections]))
        before, client = cpu_seconds(server.process.pid), resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        clients = [
            subprocess.Popen(
                ["mariadb", "--no-defaults", "-uroot", "-S", f"{server.folder}/socket", "baseline"], stdin=file.open())
            for file in files]
        codes = [process.wait(600) for process in clients]
        took = time.monotonic() - began
    assert codes == [0] * connections, codes
    after, client_after = cpu_seconds(server.process.pid), resource.getrusage(resource.RUSAGE_CHILDREN)
    own = client_after.ru_utime + client_after.ru_stime - client.ru_utime - client.ru_stime
    counted = int(server.sql("SELECT count(*) FROM messages", "baseline"))
    assert counted == rows, f"{counted} rows of {rows}"
    return {"rows": rows, "rows_per_s": round(rows / took, 1), "mariadb_cpu_s_per_million": round((after - before) / rows * 1e6, 3),
            "client_cpu_s_per_million": round(own / rows * 1e6, 3)}


def baseline(server, database):
    say(f"== baseline: the same rows, {BATCH} an INSERT, by the mariadb client")
    server.sql("DROP DATABASE IF EXISTS baseline; CREATE DATABASE baseline")
    server.sql(f"CREATE TABLE messages LIKE {database}.messages", "baseline")
    lines, rows = statements(server, database)
    found = {str(number): inserted(server, lines, rows, number) for number in CONNECTIONS}
    say(f"  {json.dumps(found)}")
    return found


# ---- reading

def rows_read(server):
    """Rows that MariaDB has read by indexes so far, in all of its tables."""
    counts = server.sql(
        "SHOW GLOBAL STATUS WHERE variable_name IN ('Handler_read_key', 'Handler_read_next', 'Handler_read_prev')")
    return sum(int(line.split()[1]) for line in counts.splitlines())


def pages(world, suite, pairs, skip):
    before = rows_read(world.server)
    found = bench(
        suite, "pages", "--pairs", str(pairs), "--rows", str(PAGE), "--skip", str(skip), "--seconds",
        "1" if SHORT else str(SECONDS_EACH))
    # By this the tier that answered is known.
    found["mariadb_rows_read_per_page"] = round((rows_read(world.server) - before) / found["asked"], 1)
    return found


def reading(world):
    """Conversations that are longer than the hot store keeps, read from both tiers, and what they cost there."""
    say("== pages of history")
    # Few, so that conversations grow long, and so few under way that a slow build answers within its deadlines.
    pairs = min(PAIRS, 20)
    options = world.backends("reads")
    with started(options, 2) as suite:
        for _ in range(20):
            loaded = store(world, suite, options, pairs, SECONDS_EACH, 16)
            shortest = int(world.server.sql("SELECT min(seq) FROM conversations", "reads_messages"))
            if shortest >= BELOW + PAGE:
                break
        tiers = {"hot": pages(world, suite, pairs, 0), "recent": pages(world, suite, pairs, BELOW)}
        redis = redis_cost(world.hot)
    return loaded, tiers, redis


def redis_cost(redis):
    """Bytes of all keys of the hot store, as Redis itself counts them, by rows."""
    rows = sum(int(redis.cli("LLEN", key)) for key in redis.keys("m:h{*}:*"))
    size = sum(int(redis.cli("MEMORY", "USAGE", key, "SAMPLES", "0")) for key in redis.keys("m:h{*}*"))
    return {"rows": rows, "conversations": len(redis.keys("m:h{*}:*")), "bytes_per_row": round(size / rows, 1)}


# ---- what a message costs

def table_bytes(server, database, table):
    """What the parts of a table that have rows are in the file system: their length, and what is allocated of it."""
    # A partitioned table has a file for each month; those without rows are all the same small size.
    folder = pathlib.Path(server.folder) / "data" / database
    files = [file for file in folder.iterdir() if file.name.split("#")[0].removesuffix(".ibd") == table and file.suffix == ".ibd"]
    largest = max(files, key=lambda file: file.stat().st_size)
    return {"length": largest.stat().st_size, "allocated": largest.stat().st_blocks * 512}


def settle(server, database, *statements):
    for statement in statements:
        server.sql(statement, database)
    # Pages that are written late would count as if they were not compressed.
    server.sql("SET GLOBAL innodb_max_dirty_pages_pct = 0")
    for _ in range(600):
        dirty = int(server.sql("SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'").split()[1])
        if dirty == 0:
            break
        time.sleep(0.05)
    server.sql("SET GLOBAL innodb_max_dirty_pages_pct = 90")


def mariadb_cost(server, database):
    rows = int(server.sql("SELECT count(*) FROM messages", database))
    tables = ("messages", "dedup", "conversations")
    settle(server, database, *(f"OPTIMIZE TABLE {table}" for table in tables), *(f"ANALYZE TABLE {table}" for table in tables))
    per_row = lambda sizes: {name: round(size / rows, 1) for name, size in sizes.items()}
    cost = {"rows": rows, "plain": {table: per_row(table_bytes(server, database, table)) for table in tables}}
    lengths = server.sql(
        "SELECT sum(data_length), sum(index_length) FROM information_schema.tables WHERE table_schema = database()", database)
    data, index = (int(word) for word in lengths.split())
    cost["data_and_indexes_of_all_tables"] = round((data + index) / rows, 1)
    settle(server, database, *(f"ALTER TABLE {table} PAGE_COMPRESSED = 1" for table in tables[:2]))
    cost["page_compressed"] = {table: per_row(table_bytes(server, database, table)) for table in tables[:2]}
    settle(server, database, *(
        f"ALTER TABLE {table} PAGE_COMPRESSED = 0, ROW_FORMAT = COMPRESSED, KEY_BLOCK_SIZE = 8" for table in tables[:2]))
    cost["row_format_compressed"] = {table: per_row(table_bytes(server, database, table)) for table in tables[:2]}
    return cost


def log_cost(kafka, messages):
    """Bytes of the record batches of each log, as they were sent: what a Kafka broker writes, once for each copy. How this server
    keeps them in its own file says nothing about Kafka."""
    state = json.loads((kafka.folder / "kafka.json").read_text())
    sizes = {"msg": 0, "push": 0}
    for name, topic in state["topics"]:
        log = name.rsplit("-", 1)[-1]
        if log in sizes:
            sizes[log] += sum(len(batch) for _, part in topic["partitions"] for _, batch in part["record_batches"])
    return {log: round(size / messages, 1) for log, size in sizes.items()}


# ---- all of it

def wanted(result):
    """Figures that have to be there and more than nothing."""
    yield from ((f"writers {number} {name}", found[name]) for number, found in result["writers"].items()
                for name in ("stored_per_s", "all_cpu_s_per_million", "acked"))
    services = {"msgproxy", "msgwriter", "msgreader", "login", "im", "route", "user", "online", "pushproxy", "pushserver",
                "pushworker", "api", "kafka", "mariadb", "redis-hot", "redis-presence", "generator"}
    for number, found in result["writers"].items():
        missing = services - set(found["cpu_s_per_million"])
        yield f"writers {number} CPU of {missing or 'all'}", not missing
        yield f"writers {number}: CPU of MsgWriter", found["cpu_s_per_million"]["msgwriter"]
        yield f"writers {number}: rows are what was acked", found["rows"] == found["acked"]
        yield f"writers {number}: no errors", found["errors"] == 0
    for number, found in result["baseline"].items():
        yield f"baseline {number}", found["rows_per_s"] * found["mariadb_cpu_s_per_million"] * found["client_cpu_s_per_million"]
    for tier in ("hot", "recent"):
        yield f"{tier} pages", result["reads"][tier]["pages_per_s"] * result["reads"][tier]["latency_ms"]["p99"]
    # Who answered: MariaDB reads the rows of every page, or only who may see them.
    yield "the hot store answered", result["reads"]["hot"]["mariadb_rows_read_per_page"] < PAGE / 2
    yield "the recent store answered", result["reads"]["recent"]["mariadb_rows_read_per_page"] >= PAGE
    cost = result["storage_cost"]
    yield "cost in Redis", cost["redis"]["bytes_per_row"]
    yield "cost in MariaDB", cost["mariadb"]["plain"]["messages"]["allocated"]
    yield "cost in the logs", cost["log"]["msg"] * cost["log"]["push"]


def main():
    result = {"bench": "storage", "bytes": 100, "pairs": PAIRS, "seconds": SECONDS_EACH, "cores": os.cpu_count(),
              "build": os.environ.get("BUILD") or ("debug" if "debug" in pathlib.Path(MARTLET).parts else "release"),
              "flush_log_at_trx_commit": 1, "writers": {}}
    sizes = ("--innodb-buffer-pool-size=1G", "--innodb-log-file-size=512M")
    with Kafka() as kafka, Redis() as presence, Redis() as hot, MariaDB(*sizes) as server:
        world = World(kafka, presence, hot, server)
        for writers in WRITERS:
            result["writers"][str(writers)] = stored_with(world, writers)
        loaded, result["reads"], redis = reading(world)
        if not WRITERS:
            result["writers"]["2"] = loaded
        last = f"w{WRITERS[-1]}_messages" if WRITERS else "reads_messages"
        result["baseline"] = baseline(server, last)
        say("== what a message costs")
        databases = ["reads_messages", *(f"w{writers}_messages" for writers in WRITERS)]
        counts = {name: int(server.sql("SELECT count(*) FROM messages", name)) for name in databases}
        messages = sum(counts.values())
        result["storage_cost"] = {"redis": redis, "mariadb": mariadb_cost(server, max(counts, key=counts.get))}
        # Stopped, it has written everything.
        kafka.stop()
        result["storage_cost"]["log"] = log_cost(kafka, messages)
    wrong = [name for name, value in wanted(result) if not value]
    assert not wrong, f"{wrong}\n{json.dumps(result, indent=1)}"
    best = max(result["writers"].values(), key=lambda found: found["stored_per_s"])
    summary(f"{best['stored_per_s']:.0f} messages/s stored ({result['build']}), rows are what was acked ({best['acked']}); "
            f"{best['all_cpu_s_per_million']:.0f} CPU s per million, mariadb client alone "
            f"{result['baseline']['1']['rows_per_s']:.0f} rows/s")
    print(json.dumps(result, sort_keys=True))


main()
