"""API, Online and Login together: a revoked user is kicked within 2 s and refused at every login, also after a restart;
a suspended app and a retired key are refused too."""
import base64
import json
import pathlib
import sys
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
import martlet_client as m
from harness import Suite, summary

def http(suite, method, path, body, basic=None, bearer=None):
    """(status, JSON)."""
    word = f"Bearer {bearer}" if bearer else "Basic " + base64.b64encode(basic.encode()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{suite.ports['http']}{path}", method=method, data=json.dumps(body).encode(),
        headers={"Authorization": word})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def token(suite, key, user):
    status, got = http(suite, "POST", "/v1/tokens", {"user_id": user}, basic=key)
    assert status == 201, got
    return got["token"]


def dial(suite, token, device, websocket=False):
    port = suite.ports["ws" if websocket else "tcp"]
    return m.Client.connect("127.0.0.1", port, token, device, device, websocket=websocket)


def refused(suite, token, reason):
    """At every door, several times: no Login lets the token in."""
    for attempt in range(3):
        for websocket in (False, True):
            try:
                dial(suite, token, f"late-{attempt}", websocket)
            except m.Closed as closed:
                assert closed.failure and closed.failure["reason"] == reason, closed.failure
            else:
                raise AssertionError(f"attempt {attempt}, WebSocket {websocket}: a token was taken, wanted {reason}")


def kicked(session, reason, began):
    """Seconds until the session is told to go."""
    while time.monotonic() - began < 5:
        try:
            session.pump(0.05)
        except m.Closed as closed:
            assert closed.failure and closed.failure["reason"] == reason, closed.failure
            return time.monotonic() - began
    raise AssertionError("a revoked session was kept for 5 s")


def revoke(suite, key):
    old = token(suite, key, "ann")
    sessions = [dial(suite, old, "phone"), dial(suite, old, "web", websocket=True)]
    other = dial(suite, token(suite, key, "ben"), "phone")
    for session in (*sessions, other):
        session.live(lambda: True)
    began = time.monotonic()
    status, got = http(suite, "POST", "/v1/tokens/revoke", {"user_id": "ann"}, basic=key)
    assert status == 200 and got["token_epoch"] == 1, got
    # From the answer on, not a moment later, no login.
    refused(suite, old, "token_revoked")
    took = max(kicked(session, "token_revoked", began) for session in sessions)
    assert took < 2, f"revoked sessions lived on for {took:.1f} s"
    fresh = token(suite, key, "ann")
    dial(suite, fresh, "phone").close()
    other.live(lambda: True)
    other.close()
    return took, old, fresh


def main():
    slowest = 0
    for arguments in ((), ("--loops", "2"), ("--processes",)):
        with Suite(*arguments) as suite:
            status, app = http(suite, "POST", "/v1/apps", {"name": "Revoking"}, bearer=suite.demo()["admin_key"])
            assert status == 201, app
            took, old, fresh = revoke(suite, f"{app['app_id']}:{app['secret']}")
            slowest = max(slowest, took)
            if arguments == ("--processes",):
                continue
            suite.kill()
            suite.start()
            refused(suite, old, "token_revoked")
            dial(suite, fresh, "phone").close()
            suspended(suite, app, fresh)
    summary(f"revoked: kicked within {slowest:.2f} s and refused at every login, also after kill -9; suspended: refused")


def suspended(suite, app, fresh):
    """PATCH /v1/apps/{id}: no new logins. A Login that has just asked may believe its answer for a minute, so the suite
    is started again instead of waiting."""
    status, got = http(suite, "PATCH", f"/v1/apps/{app['app_id']}", {"suspended": True},
                       bearer=suite.demo()["admin_key"])
    assert status == 200 and got["suspended"], got
    suite.kill()
    suite.start()
    refused(suite, fresh, "app_suspended")
    status, got = http(suite, "PATCH", f"/v1/apps/{app['app_id']}",
                       {"suspended": False, "add_key": True, "retire_keys": [app["key_id"]]},
                       bearer=suite.demo()["admin_key"])
    assert status == 200 and got["secret"], got
    suite.kill()
    suite.start()
    refused(suite, fresh, "token_unknown_key")
    dial(suite, token(suite, f"{got['key_id']}:{got['secret']}", "ann"), "phone").close()


main()
