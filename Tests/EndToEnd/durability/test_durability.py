"""An ack leaves only after an fdatasync that began after the acknowledged record was written, seen by strace.

Every single ack is proved: the client_msg_ids of a request are looked for in the bytes that went into the log, and the
sync of that file in between. The same run with fdatasync left out (`--fault no-sync`) proves nothing, as it should.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
import martlet_wire as wire
from harness import Suite, summary
from trace import LogTrace, calls, sent_to

USERS = ["alice", "bob", "carol", "dave"]
MESSAGES = int(os.environ.get("MARTLET_TRACED_MESSAGES", "250"))
ALL = len(USERS) * (len(USERS) - 1) * MESSAGES
# What Tests/run.sh shows as skipped.
SKIPPED = 77
TRACED = "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fdatasync,fsync"


class Recorder:
    """A client that remembers which ids each of its requests carried and which of them were accepted."""

    def __init__(self, suite, user):
        self.client = suite.client(user, "traced")
        self.port = self.client.link.sock.getsockname()[1]
        self.requests, self.accepted = {}, {}
        plain = self.client.request

        def request(svid, method, body, done, *rest):
            if (svid, method) != (wire.IM, 1):
                return plain(svid, method, body, done, *rest)
            ids = [wire.fields(raw)[1][0] for raw in wire.fields(body)[2]]
            number = plain(svid, method, body, done, *rest)
            self.requests[number] = ids
            return number

        self.client.request = request

    def learn(self, number, body):
        """A RESPONSE that was seen in the trace: which ids it acknowledges."""
        results = [wire.parse(wire.SEND_RESULT, raw) for raw in wire.fields(body).get(1, [])]
        return [identifier for identifier, result in zip(self.requests[number], results)
                if result["outcome"] == wire.ACCEPTED]


def frames(pieces):
    """[(frame, the call that completed it)] out of the pieces of a stream."""
    stream = wire.Tcp(None)
    for data, call in pieces:
        stream.buffer += data
        payload = stream.cut()
        while payload is not None:
            yield payload, call
            payload = stream.cut()


def run(trace, *arguments):
    """Sends under strace; returns the recorders."""
    tracer = ["strace", "-D", "-f", "--seccomp-bpf", "-yy", "-xx", "-s", "16777216", "-e", TRACED, "-o", trace]
    with Suite(*arguments, wrapper=tracer) as suite:
        recorders = [Recorder(suite, user) for user in USERS]
        for recorder, other in ((one, user) for one in recorders for user in USERS):
            user = recorder.client.user_id
            if other != user:
                texts = [f"{user} {index} " + "x" * 80 for index in range(MESSAGES)]
                recorder.client.send(wire.pair(user, other), texts)
        pending = list(recorders)
        for _ in range(20_000):
            for recorder in pending:
                recorder.client.pump(0.002)
            pending = [recorder for recorder in pending if not recorder.client.all_accepted()]
            if not pending:
                break
        assert not pending, "not everything was accepted in time"
        for recorder in recorders:
            recorder.client.close()
    return recorders


def judge(trace, recorders):
    """(acks that a sync precedes, acks that none precedes, syncs of the log while messages came)."""
    seen = calls(trace)
    log = LogTrace(seen)
    wanted = {identifier for recorder in recorders for ids in recorder.requests.values() for identifier in ids}
    written = log.written(wanted)
    proved, unproved = 0, []
    for recorder in recorders:
        for payload, call in frames(sent_to(seen, recorder.port)):
            number = int.from_bytes(payload[1:5], "big")
            if payload[0] != wire.RESPONSE or number not in recorder.requests:
                continue
            for identifier in recorder.learn(number, payload[5:]):
                write = written.get(identifier)
                synced = log.synced_at(write) if write else None
                if synced is not None and synced < call.began:
                    proved += 1
                else:
                    unproved.append((identifier.hex(), write and write.ended, synced, call.began))
    first = min((write.began for write in written.values()), default=0)
    last = max((write.ended for write in written.values()), default=0)
    syncs = sum(1 for sync in log.syncs if sync.began > first and sync.began <= last) + 1
    return proved, unproved, syncs


def start_files():
    """What a new folder's first start writes is synced before it has its name, and the name after that: whatever a power
    cut leaves is either absent or whole."""
    with tempfile.TemporaryDirectory(prefix="martlet-trace-") as folder:
        trace = pathlib.Path(folder) / "trace"
        tracer = ["strace", "-D", "-f", "-y", "-e", "trace=rename,renameat,renameat2,link,linkat,fdatasync,fsync", "-o", str(trace)]
        with Suite(wrapper=tracer) as suite:
            data = str(suite.folder)
        seen = [re.sub(r"^\d+ +", "", line) for line in trace.read_text(errors="replace").splitlines()]
        for name in ("format", "cluster.secret", "demo.json"):
            path = f"{data}/{name}"
            named = [index for index, line in enumerate(seen)
                     if line.startswith(("rename", "link")) and f'"{path}"' in line]
            assert len(named) == 1, f"{name} got its name {len(named)} times"
            before, after = seen[:named[0]], seen[named[0]:]
            # Under the name that it had before.
            source = re.search(r'"([^"]+)"', seen[named[0]]).group(1)
            assert any(line.startswith(("fdatasync", "fsync")) and f"<{source}>" in line for line in before), \
                f"{name}: not synced"
            assert any(line.startswith("fsync") and f"<{data}>" in line for line in after), f"{name}: its name is not synced"
    return 3


def may_trace():
    """Some containers let nobody trace; what cannot be seen there is seen everywhere else."""
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


def main():
    if not may_trace():
        why = "strace may not trace on this machine"
        if os.environ.get("MARTLET_MUST_TRACE") == "1":
            sys.exit(f"wrong: {why}, and MARTLET_MUST_TRACE=1 says that it should")
        summary(f"NOT RUN: {why}")
        sys.exit(SKIPPED)
    files = start_files()
    with tempfile.TemporaryDirectory(prefix="martlet-trace-") as folder:
        trace = str(pathlib.Path(folder) / "trace")
        recorders = run(trace)
        proved, unproved, syncs = judge(trace, recorders)
        assert proved == ALL, f"{proved} of {ALL} acks proved; {unproved[:3]}"
        assert not unproved, f"acks without a sync before them: {unproved[:3]}"
        batch = proved / syncs
        assert batch > 1.5, f"only {batch:.2f} messages per fdatasync under load"
        recorders = run(trace, "--fault", "no-sync")
        without, caught, _ = judge(trace, recorders)
        assert without == 0 and len(caught) == ALL, f"{without} acks seem durable without fdatasync"
    summary(f"{files} files of a new folder durable; {proved} acks, each after an fdatasync of its record, {batch:.1f} messages per fdatasync; "
            f"without fdatasync {len(caught)} are found")


main()
