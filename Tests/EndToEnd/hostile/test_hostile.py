"""Hostile clients against a real suite: its memory stays bounded, and a well-behaved pair beside them loses nothing."""
import json
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
import attacks
import martlet_wire as wire
from harness import Suite, summary

MIB = 1 << 20
SENDERS, EACH = 12, 350
READERS = 8

# What the suite may add to the memory of its first minute, by its own named limits:
#   10,000 connections without a session: a channel, its receive buffer of 512 bytes, the machine's record. 12 KiB each.
PER_SILENT = 12 * 1024
#   A session that does not read: a push window of 1 MiB (LoginConfig.pushWindowBytes), and 1 MiB of unsent bytes after
#   which the connection is cut (GatewayConfig.maxOutboundBytes).
PER_READER = 2 * MIB
#   Caches that fill with any traffic, hostile or not: the log's tail 32 MiB, hot rows 64 MiB, SQLite's pages 64 MiB.
CACHES = (32 + 64 + 64) * MIB


def client(suite, user, platform="hostile"):
    return suite.client(user, f"{user}-{platform}", platform)


def high_water(suite):
    """VmHWM of the suite: the most memory that it ever held, in bytes."""
    status = pathlib.Path(f"/proc/{suite.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) * 1024


def slow_readers(suite):
    """Users who log in and never read again, while thousands of messages are pushed to one of them and the others ask
    for history without taking the answers. All of them are closed; the one who was written to misses nothing."""
    victim = client(suite, "carol", "reader")
    victim.live(lambda: True)
    senders = [client(suite, f"sender-{index}") for index in range(SENDERS)]
    for sender in senders:
        texts = [f"{sender.user_id} {index} " + "z" * 300 for index in range(EACH)]
        sender.send(wire.pair(sender.user_id, "carol"), texts)
    askers = [client(suite, f"sender-{index}", "asker") for index in range(READERS)]
    closed_at = None
    end = time.monotonic() + 60
    while time.monotonic() < end and not (closed_at and all(sender.all_accepted() for sender in senders)):
        for sender in senders:
            sender.live(lambda: True)
            try:
                sender.pump(0.001)
            except wire.Closed:
                # This loop has many to serve: on a slow machine one of them acknowledges too late. It comes back.
                sender.reopen()
        for asker in askers:
            flood_history(asker)
        if closed_at is None and is_reset(victim):
            closed_at = time.monotonic()
    assert closed_at, "a session that never reads was kept for a minute"
    for sender in senders:
        sender.live(sender.settled)
        sender.close()
    attacks.all_end([asker.link.sock for asker in askers], 30)
    victim.reopen()
    wanted = SENDERS * EACH
    victim.live(lambda: sum(len(talk.rows) for talk in victim.conversations.values()) >= wanted)
    for sender in senders:
        talk = victim.conversations[wire.pair(sender.user_id, "carol")]
        texts = [talk.rows[seq]["content"].split()[1] for seq in sorted(talk.rows)]
        assert texts == [str(index).encode() for index in range(EACH)], f"{sender.user_id}: {texts[:5]}"
    victim.close()
    return f"{wanted} messages to a user who never read until the session was closed, all there afterwards"


def is_reset(session):
    """Whether the server has ended the connection, without reading what lies in it."""
    try:
        session.link.put(wire.varint(1) + bytes([wire.PING]))
        return False
    except wire.Closed:
        return True


def flood_history(asker):
    """Requests for the largest pages, whose answers nobody takes."""
    conversation = wire.pair(asker.user_id, "carol")
    query = wire.item(1, wire.blob(1, conversation) + wire.number(4, 200))
    asker.link.sock.settimeout(0)
    rest = getattr(asker, "rest", b"")
    if not rest:
        for _ in range(8):
            asker.counter += 1
            head = wire.HISTORY.to_bytes(2, "big") + b"\x00\x01" + asker.counter.to_bytes(4, "big")
            rest += wire.varint(1 + len(head + query)) + bytes([wire.REQUEST]) + head + query
    try:
        rest = rest[asker.link.sock.send(rest):]
    except OSError:
        # Full, because the server has stopped reading, or closed.
        pass
    asker.rest = rest


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with Suite() as suite, tempfile.TemporaryDirectory() as folder:
        stop = pathlib.Path(folder) / "stop"
        neighbour = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__).parent / "neighbour.py"), str(suite.ports["tcp"]), str(stop),
             suite.token("alice"), suite.token("bob")], stdout=subprocess.PIPE, text=True)
        time.sleep(5)
        before = high_water(suite)
        told = []
        try:
            for attack in (attacks.noise_and_half_frames, attacks.giant_lengths, attacks.floods_before_login,
                           attacks.bodies_that_do_not_come, attacks.request_floods, attacks.silent):
                told.append(attack(suite.ports))
                print(told[-1], f"VmHWM {high_water(suite) / MIB:.0f} MiB", flush=True)
            told.append(slow_readers(suite))
            print(told[-1], flush=True)
        finally:
            stop.touch()
            out, _ = neighbour.communicate(timeout=120)
        calm = json.loads(out.strip().splitlines()[-1])
        print(calm, flush=True)
        assert neighbour.returncode == 0 and calm["lost"] == 0 and calm["same_order"] and calm["refused"] == 0, calm
        assert calm["reconnects"] == 0 and calm["sent"] > 500, calm
        after = high_water(suite)
        bound = before + 10_000 * PER_SILENT + (READERS + 1) * PER_READER + CACHES
        assert after <= bound, f"VmHWM {after / MIB:.0f} MiB; at most {bound / MIB:.0f} MiB by the named limits"
        assert suite.process.poll() is None, "the suite has ended"
    summary(f"{'; '.join(told)}; VmHWM {before / MIB:.0f} -> {after / MIB:.0f} MiB, bound {bound / MIB:.0f}; "
            f"neighbours {calm['arrived']} messages, none lost, p50 {calm['p50_ms']} ms, p99 {calm['p99_ms']} ms")


main()
