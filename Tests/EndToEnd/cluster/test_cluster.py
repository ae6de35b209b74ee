"""Fourteen processes from one file, two Logins among them, no martlet-store and no data folder: `martlet check` while some
of them are killed with -9 and while Redis comes back empty. A revoked token stays refused though Redis forgot it."""
import base64
import json
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import MARTLET, expect_clean, finish_check, summary
from backends import Kafka, MariaDB, Redis, expect_dense, wait_for
import martlet_client
from cluster import INSTANCES, Balancer, Cluster


def http(cluster, path, body, authorization):
    request = urllib.request.Request(
        f"http://127.0.0.{INSTANCES['api-1']}:{cluster.http}{path}", method="POST", data=json.dumps(body).encode(),
        headers={"Authorization": authorization})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def make_app(cluster):
    """An app of the API's making, as there is no demo app; and what `martlet check` needs of it."""
    app = http(cluster, "/v1/apps", {"name": "Cluster"}, f"Bearer {cluster.admin_key}")
    access = cluster.folder / "access.json"
    secret = base64.b64encode(app["secret"].encode()).decode()
    access.write_text(json.dumps({"app": app["app_id"], "key_id": app["key_id"], "secret": secret}))
    basic = "Basic " + base64.b64encode(f"{app['app_id']}:{app['secret']}".encode()).decode()
    return access, basic


def check(cluster, balancer, access, *arguments):
    return subprocess.Popen(
        [MARTLET, "check", "--json", "--server", f"127.0.0.1:{balancer.port}", "--access", str(access), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def let_in(cluster, balancer, token):
    """Nil, or the reason why not."""
    try:
        martlet_client.Client.connect("127.0.0.1", balancer.port, token, "phone", "phone").close()
    except martlet_client.Closed as closed:
        return closed.failure and closed.failure["reason"]
    return None


def revoked(cluster, balancer, basic, redis):
    """Redis is emptied behind the revocation: what is left of it is in the database."""
    old = http(cluster, "/v1/tokens", {"user_id": "ann"}, basic)["token"]
    assert let_in(cluster, balancer, old) is None
    http(cluster, "/v1/tokens/revoke", {"user_id": "ann"}, basic)
    assert let_in(cluster, balancer, old) == "token_revoked"
    redis.kill()
    redis.start()
    wait_for(lambda: let_in(cluster, balancer, http(cluster, "/v1/tokens", {"user_id": "ann"}, basic)["token"]) is None,
             "nobody is let in after Redis came back")
    for _ in range(4):
        assert let_in(cluster, balancer, old) == "token_revoked", "Redis forgot a revocation, and so did everybody"


def main():
    with Kafka() as kafka, Redis() as redis, MariaDB() as mariadb:
        began = time.monotonic()
        with Cluster(kafka, redis, mariadb) as cluster:
            ready = time.monotonic() - began
            balancer = Balancer([(f"127.0.0.{INSTANCES[name]}", cluster.tcp) for name in ("login-1", "login-2")])
            access, basic = make_app(cluster)
            running = check(
                cluster, balancer, access, "--users", "16", "--seconds", "14", "--rate", "3", "--seed", "1", "--kill",
                "msgwriter,online,login,pushserver,user", "--pids", str(cluster.pids))
            time.sleep(7)
            # Presence and the newest messages are gone from one moment to the next.
            redis.kill()
            redis.start()
            result = expect_clean(finish_check(running), at_least=100)
            assert result["kills"] == 5, result["kills"]
            assert cluster.starts == len(INSTANCES) + 5, f"{cluster.starts} starts: some process ended by itself"
            assert min(balancer.taken) >= 5, f"the Logins took {balancer.taken} connections"
            rows = expect_dense(mariadb, "messages")
            revoked(cluster, balancer, basic, redis)
            balancer.close()
            assert not (cluster.folder / "data").exists(), "somebody made a data folder"
            began = time.monotonic()
            ends = cluster.stop()
            assert set(ends.values()) == {0}, ends
            drained = time.monotonic() - began
    summary(f"{len(INSTANCES)} processes ready in {ready:.1f} s, acked {result['acked']} over {result['kills']} kills and "
            f"an emptied Redis, {rows} rows dense, revoked stays revoked, drained in {drained:.1f} s")


main()
