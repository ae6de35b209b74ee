"""A client written from Protocols/README.md alone against the real suite: TCP and WebSocket, kill -9 in the middle."""
import base64
import json
import pathlib
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import martlet_client as m
from harness import Suite, summary

COUNT = 300


def http(suite, method, path, body=None, basic=None, bearer=None):
    """(status, JSON)."""
    headers = {"Content-Type": "application/json"}
    if basic:
        headers["Authorization"] = "Basic " + base64.b64encode(basic).decode()
    if bearer:
        headers["Authorization"] = "Bearer " + bearer
    request = urllib.request.Request(
        f"http://127.0.0.1:{suite.ports['http']}{path}", method=method, headers=headers,
        data=None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def texts(client, conversation):
    talk = client.conversations.get(conversation)
    return [talk.rows[seq]["content"].decode() for seq in sorted(talk.rows)] if talk else []


def dial(suite, token, device, websocket=False):
    port = suite.ports["ws" if websocket else "tcp"]
    return m.Client.connect("127.0.0.1", port, token, device, "python", websocket=websocket)


def expect_refusal(suite, token, reason):
    try:
        dial(suite, token, "d")
    except m.Closed as closed:
        assert closed.failure and closed.failure["reason"] == reason, f"{reason} expected, got {closed.failure}"
    else:
        raise AssertionError(f"a token that should be refused with {reason} was taken")


def the_api(suite, admin):
    """Makes an app of its own, so that nothing here depends on the demo."""
    status, health = http(suite, "GET", "/health")
    assert status == 200 and health["status"] == "ok", health
    status, app = http(suite, "POST", "/v1/apps", {"name": "Python"}, bearer=admin)
    assert status == 201, app
    key = f"{app['app_id']}:{app['secret']}".encode()
    status, made = http(suite, "POST", "/v1/users", {"users": [{"user_id": "bob", "nickname": "Bobby"}]}, basic=key)
    assert status == 200 and made["results"][0]["ok"], made
    status, token = http(suite, "POST", "/v1/tokens", {"user_id": "alice", "ttl_s": 600}, basic=key)
    assert status == 201, token
    return app, key, token["token"]


def tokens(suite, app):
    def make(secret=app["secret"], **claims):
        return m.make_token(app["app_id"], app["key_id"], secret, "alice", **claims)
    expect_refusal(suite, make(secret="wrong"), "token_bad_signature")
    expect_refusal(suite, make(ttl_s=-60), "token_expired")
    expect_refusal(suite, make(nbf=int(time.time()) + 600), "token_not_yet_valid")
    expect_refusal(suite, m.make_token("no-such-app", "k", "s", "alice"), "token_unknown_app")
    expect_refusal(suite, "not.a.token", "token_malformed")


def talk_and_die(suite, alice, bob):
    """Both directions; the suite is killed while half of it is on its way."""
    talk = m.pair("alice", "bob")
    words = [f"w{number} ü 界 🎉" for number in range(COUNT)]
    alice.send(talk, words[:COUNT // 2])
    alice.live(alice.settled)
    bob.live(lambda: len(texts(bob, talk)) == COUNT // 2)
    alice.send(talk, words[COUNT // 2:])
    for _ in range(3):
        alice.pump(0.01)
    suite.kill()
    suite.start()
    alice.live(alice.settled, 90)
    bob.live(lambda: len(texts(bob, talk)) >= COUNT, 90)
    assert texts(alice, talk) == words, "the sender's view"
    assert texts(bob, talk) == words, "the receiver's view"
    return talk, words


def state(suite, alice, bob, talk, key):
    end = bob.conversations[talk].end
    bob.sync()
    entry = bob.conversations[talk].entry
    assert (entry["head_seq"], entry["unread"], entry["peer"]) == (end, COUNT, "alice"), entry
    assert bob.set_state(talk, read_seq=end, delivered_seq=end)["ok"]
    alice.live(lambda: alice.conversations[talk].peer_read == end)
    assert alice.presence("bob", "nobody")["bob"] == 1
    assert alice.profiles("bob")[0]["nickname"] == "Bobby"
    message = {"from": "bob", "to": "alice", "text": "from the server"}
    status, sent = http(suite, "POST", "/v1/messages", message, basic=key)
    assert status == 201 and sent["outcome"] == "accepted", sent
    alice.live(lambda: texts(alice, talk)[-1] == "from the server")
    message["client_msg_id"] = sent["client_msg_id"]
    assert http(suite, "POST", "/v1/messages", message, basic=key)[0] == 201
    status, lost = http(suite, "POST", "/v1/messages", {"from": "bob", "to": "no-such-user", "text": "x"}, basic=key)
    assert status == 404 and lost["error"]["reason"] == "no_such_user", lost
    path = f"/v1/conversations/{urllib.parse.quote(talk, safe='')}/messages?user_id=alice&limit=5"
    status, page = http(suite, "GET", path, basic=key)
    assert status == 200 and [row["text"] for row in page["messages"]] == texts(alice, talk)[-5:], page
    assert page["head_seq"] == end + 1, "the same client_msg_id was stored twice"
    return page


def revoke(suite, alice, key):
    status, done = http(suite, "POST", "/v1/tokens/revoke", {"user_id": "alice"}, basic=key)
    assert status == 200, done
    began = time.monotonic()
    try:
        alice.wait(lambda: False, 5)
    except m.Closed as closed:
        assert closed.failure and closed.failure["reason"] == "token_revoked", closed.failure
    took = time.monotonic() - began
    assert took < 2.5, f"a revoked session lived on for {took:.1f} s"
    expect_refusal(suite, alice.token, "token_revoked")
    status, token = http(suite, "POST", "/v1/tokens", {"user_id": "alice"}, basic=key)
    assert status == 201, token
    dial(suite, token["token"], "d").close()


def main():
    with Suite() as suite:
        app, key, token = the_api(suite, suite.demo()["admin_key"])
        tokens(suite, app)
        alice = dial(suite, token, "py-alice")
        bob = dial(suite, m.make_token(app["app_id"], app["key_id"], app["secret"], "bob"), "py-bob", websocket=True)
        talk, words = talk_and_die(suite, alice, bob)
        state(suite, alice, bob, talk, key)
        revoke(suite, alice, key)
        bob.close()
    summary(f"{len(words)} messages over TCP and WebSocket with a kill -9 between, tokens, state, API")


if __name__ == "__main__":
    main()
