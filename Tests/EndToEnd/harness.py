"""Starts, kills and inspects a Martlet suite for the end-to-end tests. Standard library only."""
import base64
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "python"))
from martlet_client import Client
from martlet_wire import make_token

ROOT = pathlib.Path(__file__).resolve().parents[2]
MARTLET = os.environ.get("MARTLET", str(ROOT / ".build" / "debug" / "martlet"))


class Suite:
    """A `martlet up` of its own on free ports, over a data folder that survives restarts."""

    def __init__(self, *arguments, data=None, environment=None, wrapper=()):
        self.folder = pathlib.Path(data or tempfile.mkdtemp(prefix="martlet-e2e-"))
        self.owns_folder = data is None
        self.arguments = list(arguments)
        # A program that runs the suite as its own process, such as strace -D.
        self.wrapper = wrapper
        self.environment = {**os.environ, **(environment or {})}
        self.process = None
        self.ready = None
        self.ports = {"tcp": 0, "ws": 0, "http": 0, "rpc": 0}
        self.log = self.folder.parent / (self.folder.name + ".log")

    def start(self, timeout=60):
        """Starts the suite and waits until it takes connections; the same ports after a restart."""
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        command = [MARTLET, "up", "--data", str(self.folder), "--ready-file", str(ready)]
        for name, port in self.ports.items():
            command += [f"--{name}-port", str(port)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, *command, *self.arguments], stdout=log, stderr=log, env=self.environment)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"martlet up ended with {self.process.returncode}:\n{self.tail()}")
            try:
                self.ready = json.loads(ready.read_text())
                break
            except (OSError, ValueError):
                time.sleep(0.05)
        else:
            raise RuntimeError(f"martlet up was not ready in {timeout} s:\n{self.tail()}")
        self.ports = {name: self.ready[name + "_port"] for name in self.ports}
        return self

    @property
    def server(self):
        return f"127.0.0.1:{self.ports['tcp']}"

    def kill(self):
        """kill -9 of the suite: nothing gets the chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """A polite stop; returns the exit code."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise RuntimeError(f"martlet up did not stop within 20 s:\n{self.tail()}") from None
        return self.process.returncode if self.process else 0

    def tail(self, lines=40):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def demo(self):
        return json.loads((self.folder / "demo.json").read_text())

    def token(self, user):
        """One of the demo app for any user."""
        demo = self.demo()
        return make_token(demo["app"], demo["key_id"], base64.b64decode(demo["secret"]), user)

    def client(self, user, device, platform="python"):
        """A session of a user of the demo app, over TCP."""
        return Client.connect("127.0.0.1", self.ports["tcp"], self.token(user), device, platform)

    def check(self, *arguments, background=False):
        """Runs `martlet check --json` against this suite; returns its result object, with `exit` added."""
        command = [MARTLET, "check", "--json", "--server", self.server, "--access", str(self.folder / "demo.json")]
        command += list(arguments)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if background:
            return process
        return finish_check(process)

    def close(self):
        if self.process and self.process.poll() is None:
            self.stop()
        if self.owns_folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.log.unlink(missing_ok=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if kind is not None:
            sys.stderr.write(self.tail(80) + "\n")
            if self.process and self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        self.close()


class Certificates:
    """An authority and a server's certificate for localhost, made anew in a folder."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.authority, self.chain, self.key = (str(folder / name) for name in ("ca.pem", "chain.pem", "key.pem"))
        ca_key, request, names = (str(folder / name) for name in ("ca-key.pem", "request.pem", "names.cnf"))
        pathlib.Path(names).write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self.run(*new, "-x509", "-days", "2", "-subj", "/CN=Martlet test", "-keyout", ca_key, "-out", self.authority)
        self.run(*new, "-subj", "/CN=localhost", "-keyout", self.key, "-out", request)
        self.run("openssl", "x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", ca_key, "-days", "2",
                 "-CAcreateserial", "-extfile", names, "-out", self.chain)

    @property
    def options(self):
        """What `martlet up` is told."""
        return ["--tls-cert", self.chain, "--tls-key", self.key]

    def pin(self):
        """The SHA-256 of the server's public key in base64, by which a browser can be told to trust it."""
        public = self.run("openssl", "x509", "-in", self.chain, "-noout", "-pubkey")
        der = self.run("openssl", "pkey", "-pubin", "-outform", "der", given=public)
        return base64.b64encode(hashlib.sha256(der).digest()).decode()

    @staticmethod
    def run(*command, given=None):
        return subprocess.run(command, input=given, capture_output=True, check=True, timeout=60).stdout


def finish_check(process, timeout=600):
    out, err = process.communicate(timeout=timeout)
    try:
        result = json.loads(out.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise RuntimeError(f"martlet check ended with {process.returncode} and no result:\n{err[-3000:]}") from None
    result["exit"] = process.returncode
    result["words"] = err[-3000:]
    return result


def expect_clean(result, at_least=1):
    """Fails unless the checker found nothing wrong in a run of some size."""
    wrong = {name: result[name] for name in ("lost", "duplicated", "out_of_order", "unread_mismatches") if result[name]}
    if wrong or result["exit"] != 0:
        raise AssertionError(f"wrong: {wrong}, exit {result['exit']}\n{result['words']}")
    if result["acked"] < at_least:
        raise AssertionError(f"only {result['acked']} messages were acked\n{result['words']}")
    return result


def ops(*arguments, code=0, timeout=120):
    """Runs `martlet ops ... --json`; its objects, one a line. With another code expected: what it says on stderr."""
    done = subprocess.run([MARTLET, "ops", *arguments, "--json"], capture_output=True, text=True, timeout=timeout)
    if done.returncode != code:
        raise AssertionError(f"martlet ops {arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()] if code == 0 else done.stderr


def summary(text):
    """The line that the test runner shows beside the stage."""
    print(f"summary: {text}", flush=True)
