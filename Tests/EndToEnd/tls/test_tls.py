"""Everything that clients reach behind TLS, with a certificate made now: the check, the chat, the API. And not otherwise."""
import pathlib
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import harness
from harness import Certificates, Suite, expect_clean, summary


def check(suite, *arguments):
    """`martlet check` without judging it: exit code and what it said."""
    command = [harness.MARTLET, "check", "--users", "2", "--seconds", "1", "--access", str(suite.folder / "demo.json")]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


def chat(suite, *arguments, server, text):
    """What `martlet chat` makes of one line in a pipe: exit code, standard output and error."""
    command = [harness.MARTLET, "chat", "--user", "alice", "--to", "bob", "--wait", "5", "--data", str(suite.folder)]
    done = subprocess.run(
        [*command, "--server", server, *arguments], input=text + "\n", capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def checks(suite, trusted, other):
    tcp = suite.ports["tcp"]
    for server in (f"localhost:{tcp}", f"127.0.0.1:{tcp}"):
        code, words = check(suite, "--server", server, "--tls-ca", trusted)
        assert code == 0, f"{server}: {code} {words}"
    for what, arguments in {
        "without TLS": [], "the system's authorities": ["--tls"], "another authority": ["--tls-ca", other],
    }.items():
        code, words = check(suite, "--server", f"localhost:{tcp}", *arguments)
        assert code == 2 and "nobody could log in" in words, f"{what}: {code} {words}"
    assert "certificate" in check(suite, "--server", f"localhost:{tcp}", "--tls")[1]
    code, words = check(suite, "--server", f"localhost:{tcp}", "--tls-ca", "/nowhere.pem")
    assert code == 2 and "/nowhere.pem" in words, f"{code} {words}"


def chats(suite, trusted, other):
    server = f"localhost:{suite.ports['tcp']}"
    api = f"localhost:{suite.ports['http']}"
    password = suite.demo()["users"]["alice"]
    for text, arguments in {
        "with the app's key": [], "with a password, over https": ["--password", password, "--http", api],
    }.items():
        code, out, err = chat(suite, "--tls-ca", trusted, *arguments, server=server, text=text)
        assert code == 0 and "accepted" in out, f"{text}: {code} {out} {err}"
    code, out, err = chat(suite, "--tls-ca", other, server=server, text="to nobody")
    assert code != 0 and "TLS failed" in out + err, f"{code} {out} {err}"
    code, out, err = chat(suite, "--tls-ca", other, "--password", password, "--http", api, server=server, text="x")
    assert code == 2 and "certificate" in err, f"{code} {out} {err}"


def api(suite, trusted):
    port = suite.ports["http"]
    context = ssl.create_default_context(cafile=trusted)
    # 503 until the services behind the API are there, which other processes may take a moment to be.
    end = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(f"https://localhost:{port}/health", timeout=20, context=context) as answer:
                assert answer.status == 200
            break
        except urllib.error.HTTPError as error:
            assert error.code == 503 and time.monotonic() < end, error
            time.sleep(0.2)
    try:
        urllib.request.urlopen(f"http://localhost:{port}/health", timeout=20)
        raise AssertionError("HTTP without TLS was answered")
    except OSError:
        pass


def wrong_files(certificates):
    """A key that is none: one line, and nothing runs."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [harness.MARTLET, "up", "--data", folder, "--tls-cert", certificates.chain, "--tls-key", certificates.chain,
             *(option for name in ("tcp", "ws", "http", "rpc") for option in (f"--{name}-port", "0"))],
            capture_output=True, text=True, timeout=60)
        lines = done.stderr.strip().splitlines()
        assert done.returncode == 1 and len(lines) == 1 and "PEM" in lines[0], done


def main():
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as another:
        mine, other = Certificates(folder), Certificates(another)
        with Suite(*mine.options) as suite:
            assert "https://127.0.0.1" in suite.log.read_text()
            checks(suite, mine.authority, other.authority)
            chats(suite, mine.authority, other.authority)
            api(suite, mine.authority)
        wrong_files(mine)
        with Suite("--processes", *mine.options) as suite:
            api(suite, mine.authority)
            result = expect_clean(suite.check("--users", "10", "--seconds", "3", "--tls-ca", mine.authority), at_least=20)
    summary(f"check, chat and API behind TLS, one process and many; {result['acked']} acked; other authorities refused")


main()
