"""`martlet doctor` finds nothing wrong with servers that are as they should be, and finds each mistake that is made here on
purpose, one at a time, with what to do about it."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import MARTLET, Certificates, summary
from backends import Kafka, MariaDB, Redis, free_port


class Patient:
    """A configuration over real servers. Variables make one thing of it wrong."""

    def __init__(self, folder, kafka, redis, mariadb):
        self.folder = pathlib.Path(folder)
        self.config = self.folder / "martlet.yaml"
        (self.folder / "mariadb").write_text(mariadb.password + "\n")
        ports = "".join(f"  {name}-port: {free_port()}\n" for name in ("http", "ws", "tcp", "rpc"))
        database = f"mysql://martlet@127.0.0.1:{mariadb.port}/users"
        stores = "".join(
            f"{name}:\n  adapter: redis\n  redis: {{url: '{redis.url}'}}\n" for name in ("presence", "hot"))
        stores += "".join(
            f"{name}:\n  adapter: mysql\n  mysql: {{url: '{database}', password-file: {self.folder}/mariadb}}\n"
            for name in ("recent", "relational"))
        self.config.write_text(
            f"suite: {{data: {self.folder}/data}}\nlisteners:\n{ports}"
            f"log:\n  adapter: kafka\n  kafka: {{brokers: '127.0.0.1:{kafka.port}', development: true}}\n"
            + stores)

    def examine(self, code, **variables):
        """{subject: finding}, and the exit code as wanted."""
        done = subprocess.run(
            [MARTLET, "doctor", "--json", "--config", str(self.config)], capture_output=True, text=True, timeout=90,
            env={**os.environ, **variables})
        assert done.stdout, done.stderr
        report = json.loads(done.stdout)
        bad = [one for one in report["findings"] if one["level"] != "ok"]
        assert done.returncode == code, f"exit {done.returncode}, wanted {code}: {json.dumps(bad, indent=1)}"
        assert report["errors"] == sum(one["level"] == "error" for one in report["findings"])
        assert all(one.get("cure") for one in report["findings"] if one["level"] != "ok"), report
        return {one["subject"]: one for one in report["findings"]}

    def expect(self, level, subject, words, **variables):
        found = self.examine(1 if level == "error" else 0, **variables)
        one = next((finding for name, finding in found.items() if subject in name and finding["level"] == level), None)
        assert one and words in one["found"], f"no {level} of {subject} with {words!r}: {json.dumps(found, indent=1)}"


def well(patient):
    found = patient.examine(0)
    errors = {name for name, one in found.items() if one["level"] == "error"}
    assert not errors, errors
    for subject in ("log msg: produce and consume", "presence: rights", "presence: clock", "hot: latency",
                    "presence: version", "host: open files"):
        assert found[subject]["level"] in ("ok", "warning"), found[subject]
    rights = [name for name in found if name.startswith("re") and name.endswith(": rights")]
    assert len(rights) == 2, rights
    again = patient.examine(0)
    assert again.keys() == found.keys(), again.keys() ^ found.keys()
    text = subprocess.run([MARTLET, "doctor", "--config", str(patient.config)], capture_output=True, text=True, timeout=90)
    assert text.returncode == 0 and "0 errors" in text.stdout and "ok      presence: version: 7." in text.stdout, text
    return len(found)


def mistakes(patient, kafka, redis, mariadb):
    """One after the other; each is undone before the next. Yields their names."""
    nobody = free_port()
    patient.expect("error", "log msg: reachable", "", MARTLET_LOG__KAFKA__BROKERS=f"127.0.0.1:{nobody}")
    yield "no broker"
    strict = {"MARTLET_LOG__KAFKA__DEVELOPMENT": "false", "MARTLET_LOG__KAFKA__TOPICS": "absent-"}
    patient.expect("error", "log msg: topic absent-msg", "there is none", **strict)
    yield "no topic"
    patient.expect("error", "presence: reachable", str(nobody), MARTLET_PRESENCE__REDIS__URL=f"redis://127.0.0.1:{nobody}")
    yield "no Redis"
    redis.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    patient.expect("error", "presence: usable", "allkeys-lru")
    redis.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    yield "presence may be evicted"
    redis.cli("CONFIG", "SET", "maxmemory", "100mb")
    patient.expect("warning", "hot: maxmemory-policy", "noeviction")
    redis.cli("CONFIG", "SET", "maxmemory", "0")
    yield "a cache that does not evict"
    redis.cli("ACL", "SETUSER", "default", "-set")
    patient.expect("error", "presence: rights", "set")
    redis.cli("ACL", "SETUSER", "default", "+set")
    yield "no right to SET"
    redis.cli("CONFIG", "SET", "requirepass", "0123456789")
    patient.expect("error", "hot: usable", "NOAUTH")
    redis.cli("-a", "0123456789", "CONFIG", "SET", "requirepass", "")
    yield "no password for Redis"
    patient.expect("error", "recent: settings", "cannot be read", MARTLET_RECENT__MYSQL__PASSWORD_FILE="/absent")
    yield "no password file"
    patient.expect("error", ": login", "", MARTLET_RELATIONAL__MYSQL__PASSWORD="wrong")
    yield "wrong password"
    mariadb.sql("SET GLOBAL max_allowed_packet = 1048576")
    patient.expect("error", ": max_allowed_packet", "1048576")
    mariadb.sql("SET GLOBAL max_allowed_packet = 16777216")
    yield "small packets"
    mariadb.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    patient.expect("warning", ": innodb_flush_log_at_trx_commit", "2: a power cut")
    mariadb.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    yield "no flush"
    mariadb.sql("SET GLOBAL read_only = 1")
    patient.expect("error", ": read_only", "no writes")
    mariadb.sql("SET GLOBAL read_only = 0")
    yield "a database that takes no writes"
    mariadb.sql("REVOKE ALTER ON users.* FROM 'martlet'@'%'")
    patient.expect("error", ": rights", "ALTER TABLE is refused")
    mariadb.sql("GRANT ALTER ON users.* TO 'martlet'@'%'")
    left = mariadb.sql("SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'martlet_doctor%'")
    assert left.strip() == "0", f"{left} tables were left"
    yield "no right to ALTER"
    certificates = Certificates(patient.folder)
    tls = {"MARTLET_LISTENERS__TLS__CERTIFICATE": certificates.chain, "MARTLET_LISTENERS__TLS__KEY": certificates.key}
    patient.expect("warning", "listeners.tls: certificate", "days are left", **tls)
    yield "a certificate of two days"
    patient.expect("error", "listeners.tls: certificate", "PEM", **{**tls, "MARTLET_LISTENERS__TLS__CERTIFICATE": "/absent"})
    yield "no certificate"
    patient.expect("warning", "host: listeners.tcp-port", "is in use", MARTLET_LISTENERS__TCP_PORT=str(redis.port))
    yield "a port that is taken"
    patient.expect("error", "host: ", "cannot be used", MARTLET_LISTENERS__HOST="192.0.2.1")
    yield "an address of another machine"
    port = free_port()
    with Redis("--tls-port", str(port), "--tls-cert-file", certificates.chain, "--tls-key-file", certificates.key,
               "--tls-ca-cert-file", certificates.authority, "--tls-auth-clients", "no"):
        secure = {"MARTLET_HOT__REDIS__URL": f"rediss://127.0.0.1:{port}"}
        patient.expect("error", "hot: reachable", "", **secure)
        yield "an authority that nobody knows"
        secure["MARTLET_HOT__REDIS__TLS__AUTHORITIES"] = certificates.authority
        patient.expect("warning", f"hot 127.0.0.1:{port}: certificate", "days are left", **secure)
    yield "a Redis whose certificate ends"
    assert patient.examine(0), "something was not undone"


def main():
    with tempfile.TemporaryDirectory(prefix="martlet-doctor-") as folder, Kafka() as kafka, Redis() as redis, \
            MariaDB() as mariadb:
        mariadb.make("users")
        patient = Patient(folder, kafka, redis, mariadb)
        findings = well(patient)
        found = list(mistakes(patient, kafka, redis, mariadb))
        assert not (pathlib.Path(folder) / "data").exists(), "the doctor made a data folder"
    assert len(found) >= 8, found
    summary(f"{findings} findings of servers that are well; {len(found)} mistakes found: {', '.join(found)}")


main()
