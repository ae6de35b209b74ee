"""The real servers that the end-to-end tests and the benchmarks run against, each with a folder of its own on loopback."""
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

# Debian keeps mariadbd there.
os.environ["PATH"] += ":/usr/sbin"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(is_so, complaint, seconds=20):
    for _ in range(int(seconds * 20)):
        if is_so():
            return
        time.sleep(0.05)
    raise AssertionError(complaint)


class Redis:
    """A redis-server of its own, which forgets everything when it ends."""

    def __init__(self, *arguments):
        self.folder = tempfile.mkdtemp(prefix="martlet-redis-")
        self.port = free_port()
        self.command = [
            "redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, "--save", "",
            "--repl-diskless-sync-delay", "0", "--logfile", os.path.join(self.folder, "log"), *arguments]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        wait_for(lambda: self.cli("PING").strip() == "PONG", f"{self.command[0]} does not answer")
        return self

    def cli(self, *words):
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout

    def keys(self, pattern):
        return self.cli("--scan", "--pattern", pattern).split("\n")[:-1]

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """kill -9."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Kafka:
    """A server of Kafka's protocol over a folder that survives its restarts."""

    # What noida-db needs and Kafka does not (decision 0009): time before a partition is let go; and when its answer to a
    # newcomer is lost all the same, on a slow machine, the group stands no longer than the checker waits.
    LET_GO_MS = 250
    REBALANCE_MS = 12000
    OPTIONS = f"development=true&let-go-ms={LET_GO_MS}&rebalance-ms={REBALANCE_MS}"

    def __init__(self):
        # The program itself; installed by kafka/install.sh when the caller did not say where it is.
        self.program = os.environ.get("MARTLET_KAFKA_SERVER") or subprocess.run(
            [str(pathlib.Path(__file__).with_name("kafka") / "install.sh")], capture_output=True, text=True, check=True,
            timeout=300).stdout.strip()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="martlet-kafka-"))
        self.port = free_port()
        self.process = None

    def address(self, topics, port=None):
        """Each suite has topics of its own, and so groups of its own."""
        return f"kafka://127.0.0.1:{port or self.port}?{self.OPTIONS}&topics={topics}-"

    def start(self):
        self.process = subprocess.Popen(
            [self.program, "start", "--only", "kafka", "--kafka-port", str(self.port), "--data-dir", str(self.folder)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        """A clean stop: what it acknowledged is kept."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class MariaDB:
    """A mariadbd of its own that keeps what it has acknowledged."""

    def __init__(self, *arguments):
        self.folder = tempfile.mkdtemp(prefix="martlet-mariadb-")
        self.port = free_port()
        self.arguments = list(arguments)
        self.password = secrets.token_hex(12)
        self.process = None
        self.as_root = ["--user=root"] if os.getuid() == 0 else []
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data", "--skip-test-db",
             "--auth-root-authentication-method=normal", *self.as_root], check=True, stdout=subprocess.DEVNULL, timeout=120)

    def start(self):
        with open(f"{self.folder}/log", "ab") as log:
            self.process = subprocess.Popen(
                ["mariadbd", "--no-defaults", f"--datadir={self.folder}/data", f"--socket={self.folder}/socket",
                 f"--port={self.port}", "--bind-address=127.0.0.1", f"--pid-file={self.folder}/pid",
                 "--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=128M", *self.arguments, *self.as_root],
                stdout=log, stderr=log)
        for _ in range(600):
            if self.sql("SELECT 1", check=False).strip() == "1":
                return self
            time.sleep(0.05)
        raise RuntimeError("mariadbd does not answer:\n" + pathlib.Path(f"{self.folder}/log").read_text()[-2000:])

    def sql(self, text, database=None, check=True):
        command = ["mariadb", "--no-defaults", "-uroot", "-S", f"{self.folder}/socket", "-NB", "-e", text]
        done = subprocess.run(command + ([database] if database else []), capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    def make(self, *databases):
        for name in databases:
            self.sql(f"DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name}")
        self.sql(f"CREATE OR REPLACE USER 'martlet'@'%' IDENTIFIED BY '{self.password}'; "
                 + " ".join(f"GRANT ALL ON {name}.* TO 'martlet'@'%';" for name in databases))

    def url(self, *databases):
        return f"mysql://martlet:{self.password}@" + ",".join(f"127.0.0.1:{self.port}/{name}" for name in databases)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def expect_dense(server, *databases):
    """Seqs without a hole or a double in every conversation, and heads that are where the rows end. Returns the rows."""
    total = 0
    for name in databases:
        wrong = server.sql(
            "SELECT c.name, c.seq, m.amount, m.most FROM conversations c LEFT JOIN (SELECT conv, count(*) AS amount, "
            "count(DISTINCT seq) AS seqs, max(seq) AS most FROM messages GROUP BY conv) m ON m.conv = c.no "
            "WHERE m.amount IS NULL OR m.amount <> c.seq OR m.seqs <> c.seq OR m.most <> c.seq", name)
        assert not wrong, f"not dense in {name}:\n{wrong}"
        total += int(server.sql("SELECT count(*) FROM messages", name))
    return total
