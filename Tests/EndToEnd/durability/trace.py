"""Reads what strace saw of a suite: which bytes went into the message log, when they were synced, and when acks left.

Lines come in the order in which the kernel let the calls begin and end, over all threads, because one tracer stops
every one of them. So "ends before it begins" is simply a matter of line numbers.
"""
import re

LINE = re.compile(r"^(\d+) +(.*)$")
CALL = re.compile(r"^(\w+)\((\d+)<((?:->|[^>])*)>(.*)$")
RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
RESULT = re.compile(r"= (-?\d+)(?: |$)")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
WRITES = {"write", "pwrite64", "writev", "pwritev", "sendto", "sendmsg"}


class Call:
    """A system call: the file or socket behind its descriptor, its bytes, and the lines where it begins and ends."""

    def __init__(self, name, path, began, text):
        self.name, self.path, self.began, self.text = name, path, began, text
        self.ended, self.result = None, None

    def bytes(self):
        return bytes.fromhex("".join(TEXT.findall(self.text)).replace("\\x", ""))


def plain(path):
    """Some versions of strace write paths as they write bytes."""
    if not path.startswith("\\x"):
        return path
    return bytes.fromhex(path.replace("\\x", "")).decode(errors="replace")


def calls(path):
    """Every traced call that was carried out, in the order of their beginnings."""
    found, open_calls = [], {}
    with open(path, errors="replace") as trace:
        for place, line in enumerate(trace):
            split = LINE.match(line.rstrip("\n"))
            if not split:
                continue
            thread, rest = split.groups()
            resumed = RESUMED.match(rest)
            if resumed:
                call = open_calls.pop(thread, None)
                if call is None:
                    continue
                call.text += resumed.group(2)
            else:
                begun = CALL.match(rest)
                if not begun:
                    continue
                call = Call(begun.group(1), plain(begun.group(3)), place, begun.group(4))
                found.append(call)
                if call.text.endswith("<unfinished ...>"):
                    open_calls[thread] = call
                    continue
            call.ended = place
            # The result stands behind the last quote: the bytes themselves may contain anything.
            result = RESULT.search(call.text[call.text.rfind('"') + 1:])
            call.result = int(result.group(1)) if result else None
    return found


class LogTrace:
    """The message log's side: where each client_msg_id was written and when the file was synced."""

    def __init__(self, all_calls):
        self.writes = [call for call in all_calls if call.name in WRITES and ".seg" in call.path]
        self.syncs = [call for call in all_calls if call.name == "fdatasync" and ".seg" in call.path
                      and call.result == 0 and call.ended is not None]

    def written(self, wanted):
        """{client_msg_id: the first call that wrote it}, for the wanted ids that were written."""
        places = {}
        for call in self.writes:
            data = call.bytes()
            at = data.find(MARK)
            while at >= 0:
                identifier = data[at + len(MARK):at + len(MARK) + 16]
                if identifier in wanted:
                    places.setdefault(identifier, call)
                at = data.find(MARK, at + 1)
        return places

    def synced_at(self, write):
        """The line at which the first sync ended that began after this write; None when there is none."""
        ends = [sync.ended for sync in self.syncs if sync.path == write.path and sync.began > write.ended]
        return min(ends, default=None)


# ChatMessage.client_msg_id (field 3, 16 bytes) as it lies in a record.
MARK = b"\x1a\x10"


def sent_to(all_calls, port):
    """[(bytes, call)] that the suite wrote to the client on this port, in order."""
    peer = f":{port}"
    return [(call.bytes()[:call.result], call) for call in all_calls
            if call.name in WRITES and call.path.startswith("TCP:") and call.path.rstrip("]").endswith(peer)
            and call.result and call.result > 0]
