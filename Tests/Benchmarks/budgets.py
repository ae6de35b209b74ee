"""Counts what a message costs a running server - allocations, system calls, context switches - at a fixed offered load,
and compares it with the budgets in budgets.json. Docs/benchmarks.md says how and why.

Exit code 0: within the budgets; 1: a budget is exceeded, missing, or the load had errors; 2: could not count.
The result is one JSON object on the last line of stdout; --write makes what was counted the new budgets.
"""
import argparse
import json
import math
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import threading
import time

BUDGETS = pathlib.Path(__file__).resolve().parent / "budgets.json"
FIGURES = ("allocations", "context_switches", "system_calls")
# Whatever hands out memory in the C library, which Swift's runtime uses for everything.
ALLOCATORS = ("malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign")
# After the load began: caches fill, batches reach their usual size.
SETTLE_SECONDS = 4
# Starting and stopping perf, each time.
PERF_SECONDS = 4
# The schedule waits for nobody; a server this late is not at the offered load but behind it.
LATEST_MS = 2000


class CannotCount(Exception):
    """Why nothing can be measured at all: one line for the user."""


class Unavailable(Exception):
    """Why one figure cannot be counted on this machine."""


# --- comparing


def compare(counted, budgets, tolerance):
    """(what is wrong, what could be better), in words, for the figures that were counted."""
    wrong, better = [], []
    for name in FIGURES:
        value, budget = counted.get(name), budgets.get(name)
        if value is None:
            continue
        if budget is None:
            wrong.append(f"{name}: {value} per message and no budget for it; set one with --write")
        elif value > budget * (1 + tolerance):
            wrong.append(f"{name}: {value} per message, {value / budget - 1:.0%} above the budget of {budget}")
        elif value < budget * (1 - tolerance):
            better.append(
                f"{name}: {value} per message, {1 - value / budget:.0%} below the budget of {budget}: lower it")
    return wrong, better


def precise(value):
    """Three digits are more than a count repeats to."""
    if value == 0:
        return 0.0
    return round(value, 2 - math.floor(math.log10(abs(value))))


def medians(rounds):
    """The median over the rounds of each figure that all of them have; None for the others."""
    found = {}
    for name in FIGURES:
        values = [each[name] for each in rounds if each.get(name) is not None]
        found[name] = precise(statistics.median(values)) if values and len(values) == len(rounds) else None
    return found


# --- reading


def switches(status_texts):
    """Context switches that /proc/PID/task/*/status tell of, wanted and forced."""
    total = 0
    for text in status_texts:
        for line in text.splitlines():
            if line.startswith(("voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:")):
                total += int(line.split(":")[1])
    return total


def perf_sum(text):
    """The sum of all counters in the output of `perf stat -x,`."""
    total, found = 0, False
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        value = line.split(",")[0]
        if not value.isdigit():
            raise Unavailable(f"perf says: {line}")
        total += int(value)
        found = True
    if not found:
        raise Unavailable("perf counted nothing")
    return total


def thread_switches(pids):
    texts = []
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            try:
                texts.append((task / "status").read_text())
            except (FileNotFoundError, ProcessLookupError):
                pass  # the thread has ended
    return switches(texts)


def cpu_seconds(pids):
    ticks = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def run(*command):
    """stdout and stderr together; Unavailable when the command fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not installed") from None
    said = done.stdout + done.stderr
    if done.returncode != 0:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        raise Unavailable(f"`{' '.join(command[:2])}` fails: {lines[0] if lines else done.returncode}")
    return said


def perf_count(events, pids, seconds):
    """How often the events happen in the processes, threads that start meanwhile included."""
    chosen = [part for event in events for part in ("-e", event)]
    return perf_sum(
        run("perf", "stat", "-x,", *chosen, "-p", ",".join(map(str, pids)), "--", "sleep", str(seconds)))


class Probes:
    """The kernel's probes on the C library's allocators; whoever adds them removes them."""

    def __init__(self, pid):
        self.group = f"martlet_budget_{os.getpid()}"
        self.events = []
        self.libc = c_library(pathlib.Path(f"/proc/{pid}/maps").read_text())

    def add(self):
        """All of them or none."""
        try:
            for name in ALLOCATORS:
                # perf takes an event's name for taken when another group has it, so the name has the number, too.
                event = f"{self.group}:{name}_{os.getpid()}"
                run("perf", "probe", "-x", self.libc, "--add", f"{event}={name}")
                self.events.append(event)
        except Unavailable:
            self.remove()
            raise
        return self

    def remove(self):
        if self.events:
            run("perf", "probe", "--del", f"{self.group}:*")
        self.events = []


def c_library(maps):
    """The C library's path in the text of /proc/PID/maps."""
    for line in maps.splitlines():
        path = line.split(maxsplit=5)[-1]
        if path.startswith("/") and path.rsplit("/", 1)[1].startswith(("libc.so", "libc-")):
            return path
    raise Unavailable("the server has no C library of its own: a static program?")


# --- the load


class Load:
    """`martlet bench steady`, which runs for as long as the counting takes."""

    def __init__(self, options, seconds):
        self.seconds = seconds
        self.wanted = options.rate * seconds
        self.words = []
        self.begun = threading.Event()
        command = [options.binary, "bench", "steady", "--json", "--server", options.server, "--access", options.access,
                   "--pairs", str(options.pairs), "--bytes", str(options.bytes), "--rate", str(options.rate),
                   "--seconds", str(seconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self.listen, daemon=True)
        self.reader.start()

    def listen(self):
        for line in self.process.stderr:
            self.words.append(line.rstrip())
            if line.startswith("steady:"):
                self.begun.set()
        self.begun.set()

    def wait_until_steady(self):
        self.begun.wait(timeout=120)
        time.sleep(SETTLE_SECONDS)
        self.expect_running()

    def expect_running(self):
        """A count is only good when the load lasted through all of it."""
        if self.process.poll() is not None:
            raise CannotCount("the load ended early: " + " / ".join(self.words[-3:]))

    def result(self):
        """The load's own report; CannotCount when the server was not at the offered load."""
        out, _ = self.process.communicate(timeout=self.seconds + 120)
        if self.process.returncode not in (0, 1) or not out.strip():
            raise CannotCount("the load failed: " + " / ".join(self.words[-3:]))
        report = json.loads(out.strip().splitlines()[-1])
        if report["messages"] + report["errors"] < 0.99 * self.wanted:
            raise CannotCount(f"{report['messages']} messages instead of {self.wanted}")
        if report["latency_ms"]["p99"] > LATEST_MS:
            raise CannotCount(
                f"the server is too slow for this load: p99 {report['latency_ms']['p99']} ms at {report['per_s']}/s")
        return report

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=30)


# --- counting


def counted(name, skipped, count):
    """What `count` returns; None, with the reason kept, when the machine cannot."""
    if name in skipped:
        return None
    try:
        return count()
    except Unavailable as why:
        skipped[name] = str(why)
        print(f"{name} are not counted: {why}", file=sys.stderr)
        return None


def one_round(options, probes, load, skipped):
    """Figures per message. Probes slow the server down, so allocations are counted for themselves."""
    messages = options.rate * options.seconds
    pids, seconds = options.pid, options.seconds
    found = {}
    began, cpu, before = time.monotonic(), cpu_seconds(pids), thread_switches(pids)
    time.sleep(seconds)
    after = thread_switches(pids)
    passed = options.rate * (time.monotonic() - began)
    found["context_switches"] = (after - before) / passed
    found["server_cpu_s_per_million"] = (cpu_seconds(pids) - cpu) * 1e6 / passed
    load.expect_running()
    calls = counted("system_calls", skipped, lambda: perf_count(["raw_syscalls:sys_enter"], pids, seconds))
    found["system_calls"] = None if calls is None else calls / messages
    load.expect_running()
    allocated = None
    if probes:
        allocated = counted("allocations", skipped, lambda: perf_count(probes.events, pids, seconds))
    found["allocations"] = None if allocated is None else allocated / messages
    load.expect_running()
    return found


def count_rounds(options, skipped):
    seconds = SETTLE_SECONDS + options.rounds * (3 * options.seconds + 2 * PERF_SECONDS)
    load = Load(options, seconds)
    probes = None
    try:
        load.wait_until_steady()
        probes = counted("allocations", skipped, lambda: Probes(options.pid[0]).add())
        rounds = []
        for number in range(options.rounds):
            rounds.append(one_round(options, probes, load, skipped))
            print(f"round {number + 1}: {json.dumps(rounds[-1])}", file=sys.stderr)
        return rounds, load.result()
    finally:
        load.stop()
        if probes:
            probes.remove()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="martlet, whose `bench steady` is the load")
    parser.add_argument("--server", required=True, help="HOST:PORT")
    parser.add_argument("--access", required=True, help="access file of the server's data folder")
    parser.add_argument("--pid", required=True, type=int, nargs="+", help="the server's processes")
    parser.add_argument("--budgets", type=pathlib.Path, default=BUDGETS)
    parser.add_argument("--rate", type=int, help="messages a second; default: the budgets'")
    parser.add_argument("--pairs", type=int, help="default: the budgets'")
    parser.add_argument("--bytes", type=int, help="of a message's text; default: the budgets'")
    parser.add_argument("--seconds", type=int, default=5, help="each count; three counts a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="make what was counted the budgets")
    return parser.parse_args()


def main():
    options = arguments()
    kept = json.loads(options.budgets.read_text())
    for name in ("rate", "pairs", "bytes"):
        if getattr(options, name) is None:
            setattr(options, name, kept["load"][name])
    load = {"bytes": options.bytes, "pairs": options.pairs, "rate": options.rate}
    skipped = {}
    rounds, report = count_rounds(options, skipped)
    figures = medians(rounds)
    result = {"bench": "budgets", "load": load, "per_message": figures, "skipped": skipped,
              "server_cpu_s_per_million": precise(statistics.median(r["server_cpu_s_per_million"] for r in rounds)),
              "latency_ms": report["latency_ms"], "errors": report["errors"]}
    wrong, better = [], []
    if options.write:
        if skipped or report["errors"]:
            raise CannotCount("budgets are written only when everything was counted and nothing went wrong")
        kept = {"load": load, "per_message": figures, "tolerance": kept["tolerance"]}
        options.budgets.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    elif load == kept["load"]:
        wrong, better = compare(figures, kept["per_message"], kept["tolerance"])
    else:
        wrong = [f"the budgets are for another load, {json.dumps(kept['load'])}: nothing was compared"]
    if report["errors"]:
        wrong.append(f"{report['errors']} errors: {report['error_counts']}")
    for line in wrong + better:
        print(line, file=sys.stderr)
    result["wrong"] = wrong
    print(json.dumps(result, sort_keys=True))
    return 1 if wrong else 0


if __name__ == "__main__":
    # Probes are the kernel's, not this process's: they have to be removed also when somebody ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except (CannotCount, OSError) as why:
        print(f"budgets: {why}", file=sys.stderr)
        sys.exit(2)
