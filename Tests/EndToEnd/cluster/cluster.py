"""A cluster on this machine: every service a process with an address of its own (127.0.0.2, .3 ...), all from one file."""
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from harness import MARTLET
from backends import free_port, wait_for

# Instances and the last number of their addresses. Route is found by a name, the others by addresses.
INSTANCES = {"route-1": 1, "msgproxy-1": 2, "pushproxy-1": 3, "msgreader-1": 4, "user-1": 5, "online-1": 6,
             "pushworker-1": 7, "msgwriter-1": 8, "msgwriter-2": 9, "pushserver-1": 10, "im-1": 11, "api-1": 12,
             "login-1": 13, "login-2": 14}
CALLED = ["msgproxy", "pushproxy", "msgreader", "user", "online", "pushworker"]


class Cluster:
    """Starts the services, starts those again that die, and keeps pids.json for `martlet check --kill`."""

    def __init__(self, kafka, redis, mariadb):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="martlet-cluster-"))
        self.port, self.health, self.http, self.ws, self.tcp = (free_port() for _ in range(5))
        self.admin_key = secrets.token_hex(16)
        for name, text in (("secret", secrets.token_hex(24)), ("admin", self.admin_key), ("mariadb", mariadb.password)):
            (self.folder / name).write_text(text + "\n")
        mariadb.make("users", "messages")
        self.config = self.folder / "martlet.yaml"
        self.config.write_text(self.yaml(kafka, redis, mariadb))
        self.pids = self.folder / "pids.json"
        self.lock = threading.Lock()
        self.running = {}
        self.stopping = False
        self.starts = 0

    def yaml(self, kafka, redis, mariadb):
        called = "".join(f"    {role}: 127.0.0.{INSTANCES[role + '-1']}:{self.port}\n" for role in CALLED)
        store = "{store}:\n  adapter: redis\n  redis:\n    url: " + redis.url + "\n"
        database = ("{store}:\n  adapter: mysql\n  mysql:\n    url: mysql://martlet@127.0.0.1:" + str(mariadb.port)
                    + "/{database}\n    password-file: " + str(self.folder / "mariadb") + "\n")
        return (
            f"suite:\n  data: {self.folder}/data\ndemo:\n  app: false\n"
            f"listeners:\n  http-port: {self.http}\n  ws-port: {self.ws}\n  tcp-port: {self.tcp}\n"
            "log:\n  adapter: kafka\n  kafka:\n    development: true\n    topics: cluster-\n"
            f"    let-go-ms: {kafka.LET_GO_MS}\n    rebalance-ms: {kafka.REBALANCE_MS}\n"
            f"    brokers: [127.0.0.1:{kafka.port}]\n"
            + store.format(store="presence") + store.format(store="hot")
            + database.format(store="recent", database="messages") + database.format(store="relational", database="users")
            + f"cluster:\n  port: {self.port}\n  health-port: {self.health}\n"
            f"  secret-file: {self.folder}/secret\n  admin-key-file: {self.folder}/admin\n"
            f"  services:\n    route: localhost:{self.port}\n" + called)

    def environment(self, name):
        address = f"127.0.0.{INSTANCES[name]}"
        return {**os.environ, "MARTLET_CLUSTER__LISTEN": address, "MARTLET_LISTENERS__HOST": address}

    def launch(self, name):
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [MARTLET, "serve", name, "--config", str(self.config)], stdout=log, stderr=log, env=self.environment(name))
        self.running[name] = process
        self.starts += 1
        return process

    def supervise(self):
        while not self.stopping:
            with self.lock:
                for name, process in list(self.running.items()):
                    if process.poll() is not None and not self.stopping:
                        self.launch(name)
                        self.write_pids()
            time.sleep(0.1)

    def write_pids(self):
        pids = {}
        for name, process in sorted(self.running.items()):
            pids.setdefault(name.split("-")[0], []).append(process.pid)
        fresh = self.folder / "pids.new"
        fresh.write_text(json.dumps(pids))
        fresh.rename(self.pids)

    def healthy(self, name):
        done = subprocess.run(
            [MARTLET, "health", "--config", str(self.config)], env=self.environment(name), capture_output=True, text=True,
            timeout=20)
        return done.returncode == 0

    def __enter__(self):
        for name in INSTANCES:
            self.launch(name)
        self.write_pids()
        self.supervisor = threading.Thread(target=self.supervise, daemon=True)
        self.supervisor.start()
        for name in INSTANCES:
            try:
                wait_for(lambda name=name: self.healthy(name), f"{name} is not ready", seconds=4)
            except AssertionError:
                raise AssertionError(f"{name} is not ready:\n{self.log(name)}") from None
        return self

    def log(self, name):
        return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-30:])

    def stop(self):
        """SIGTERM to all; returns how they ended."""
        self.stopping = True
        self.supervisor.join()
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        return {name: process.wait(20) for name, process in self.running.items()}

    def __exit__(self, kind, *_):
        self.stopping = True
        for process in self.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        if kind is not None:
            for name in INSTANCES:
                print(f"--- {name}\n{self.log(name)}")
        shutil.rmtree(self.folder, ignore_errors=True)


class Balancer:
    """Hands connections to the addresses in turn, and passes over those that take none."""

    def __init__(self, addresses):
        self.addresses = addresses
        self.taken = [0] * len(addresses)
        self.turn = 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            for _ in self.addresses:
                index = self.turn = (self.turn + 1) % len(self.addresses)
                try:
                    server = socket.create_connection(self.addresses[index], timeout=5)
                except OSError:
                    continue
                server.settimeout(None)
                self.taken[index] += 1
                for one, other in ((client, server), (server, client)):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self.pump, args=(one, other), daemon=True).start()
                break
            else:
                client.close()

    @staticmethod
    def pump(one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        for side in (one, other):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
