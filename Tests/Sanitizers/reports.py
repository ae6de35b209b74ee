"""Reads what ThreadSanitizer wrote and prints the races that are none of its blind spots; exit code 1 when there are any.

    .build/thread/debug/martletPackageTests.xctest ... 2>&1 | python3 Tests/Sanitizers/reports.py

Swift's `Mutex` takes its lock with a futex inside the standard library, which ThreadSanitizer cannot see on Linux: it
reports every value that two threads change under one. So an access that happens inside `withLock` is not held against
anybody; a race has at least one access outside of it. Nor does it see the runtime hand a task from one thread to another:
what is in a task's own memory is left out, too.
"""
import functools
import pathlib
import re
import sys

FRAME = re.compile(r"^\s+#\d+ .*? (/\S+?\.swift)(?::(\d+))?(?::\d+)? ")


@functools.lru_cache(maxsize=None)
def lines(path):
    try:
        return pathlib.Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []


def locked(stack):
    """Whether some frame of the stack stands at a call of `withLock`."""
    for line in stack:
        found = FRAME.match(line)
        if found and found.group(2):
            text, number = lines(found.group(1)), int(found.group(2)) - 1
            if number < len(text) and "withLock" in text[number]:
                return True
    return False


def stacks(report):
    """The two accesses of a report: what follows their headings, up to an empty line."""
    found, current = [], None
    for line in report:
        if re.match(r"\s+(Previous )?(atomic )?(modifying access|access|write|read|modification)\b.* by ", line, re.I):
            current = []
            found.append(current)
        elif not line.strip():
            current = None
        elif current is not None:
            current.append(line)
    return found


def sift(written):
    """How many reports there are, those that are races, and all other lines."""
    reports, report, races, rest = 0, None, [], []
    for line in written:
        line = line.rstrip("\n")
        if "WARNING: ThreadSanitizer" in line:
            report = [line]
        elif report is not None and line.startswith("=================="):
            reports += 1
            found = stacks(report)
            in_task = any("swift::StackAllocator<" in frame and "TaskAllocator" in frame for frame in report)
            if not in_task and (len(found) < 2 or not all(map(locked, found))):
                races.append(report)
            report = None
        elif report is not None:
            report.append(line)
        else:
            rest.append(line)
    return reports, races, rest


def main():
    reports, races, rest = sift(sys.stdin)
    print("\n".join(rest))
    for race in races:
        print("\n".join(race))
    print(f"summary: {reports} reports of ThreadSanitizer, {len(races)} of them outside of a lock")
    return 1 if races else 0


if __name__ == "__main__":
    sys.exit(main())
