"""What hostile clients do to a Martlet's ports. Every attack returns a line of figures, or raises."""
import random
import selectors
import socket
import time

import martlet_wire as wire

HANDSHAKE_S = 10  # LoginConfig.handshakeMS
REQUEST_S = 15    # APILimits.requestMS
SLACK_S = 8       # for a debug build on a busy machine


def connect(port, source="127.0.0.1"):
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))


def ends_within(sock, seconds):
    """Reads until the server ends the connection; the seconds that took. Raises when it does not."""
    began = time.monotonic()
    while True:
        left = began + seconds - time.monotonic()
        if left <= 0:
            raise AssertionError(f"the server kept a hostile connection for more than {seconds} s")
        sock.settimeout(left)
        try:
            if not sock.recv(65536):
                return time.monotonic() - began
        except socket.timeout:
            continue
        except OSError:
            return time.monotonic() - began


def noise_and_half_frames(ports, count=400, halves=300):
    """Connections that say noise, to every port, or the beginning of a frame and then nothing: all are ended, by the
    handshake time-out at the latest."""
    noise = random.Random(7)
    socks = []
    for index in range(count):
        sock = connect(ports[("tcp", "ws", "http")[index % 3]])
        try:
            sock.sendall(noise.randbytes(noise.choice((1, 3, 20, 500, 5000))))
        except OSError:
            pass
        socks.append(sock)
    noisy = len(socks)
    for index in range(halves):
        sock = connect(ports["tcp"])
        hello = wire.number(1, 1) + wire.blob(3, "half")
        whole = wire.varint(len(hello) + 1) + bytes([wire.HELLO]) + hello
        sock.sendall((b"", whole)[index % 2] + wire.varint(200) + bytes([wire.AUTHENTICATE]) + b"\x0a")
        socks.append(sock)
    took = all_end(socks, REQUEST_S + SLACK_S)
    return f"{noisy} of noise and {halves} half frames ended in {took:.1f} s"


def all_end(socks, seconds=HANDSHAKE_S + SLACK_S):
    """Waits until the server has ended every connection; the seconds that the last one took."""
    began = time.monotonic()
    selector = selectors.DefaultSelector()
    for sock in socks:
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    left = len(socks)
    while left:
        wait = began + seconds - time.monotonic()
        if wait <= 0:
            raise AssertionError(f"{left} of {len(socks)} hostile connections were still open after {seconds} s")
        for key, _ in selector.select(wait):
            try:
                ended = not key.fileobj.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                ended = True
            if ended:
                selector.unregister(key.fileobj)
                key.fileobj.close()
                left -= 1
    return time.monotonic() - began


def answers(ports, source="127.0.0.9"):
    """Seconds that an ordinary request of somebody else takes; raises when it is not served."""
    began = time.monotonic()
    sock = connect(ports["http"], source)
    sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    told = b""
    while chunk := sock.recv(65536):
        told += chunk
    sock.close()
    assert told.startswith(b"HTTP/1.1 200"), f"somebody else was told {told[:200]!r}"
    return time.monotonic() - began


def bodies_that_do_not_come(ports, count=700):
    """Requests that announce a body and send a byte of it now and then: they take nobody's place and are all ended."""
    head = b"POST /demo/login HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n"
    socks = []
    for index in range(count):
        sock = connect(ports["http"], f"127.0.0.{2 + index % 4}")
        sock.sendall(head)
        socks.append(sock)
    began, slowest = time.monotonic(), 0
    while time.monotonic() - began < REQUEST_S / 2:
        slowest = max(slowest, answers(ports))
        for sock in socks:
            try:
                sock.sendall(b"x")
            except OSError:
                pass
        time.sleep(0.5)
    all_end(socks, REQUEST_S + SLACK_S - (time.monotonic() - began))
    assert slowest < 5, f"somebody else waited {slowest:.1f} s"
    return f"{count} bodies that do not come ended {time.monotonic() - began:.1f} s after their heads"


def request_floods(ports, count=200, requests=2000):
    """Thousands of requests behind one another whose answers nobody reads: their connections end, others are served."""
    flood = b"GET /chat.js HTTP/1.1\r\nHost: x\r\n\r\n" * requests
    socks = []
    for index in range(count):
        sock = connect(ports["http"], f"127.0.0.{2 + index % 4}")
        sock.setblocking(False)
        try:
            sock.send(flood)
        except OSError:
            pass
        socks.append(sock)
    slowest = max(answers(ports) for _ in range(5))
    all_end(socks, SLACK_S)
    assert slowest < 5, f"somebody else waited {slowest:.1f} s"
    return f"beside {count} connections with {requests} requests each somebody else waited {slowest:.2f} s at most"


def giant_lengths(ports, count=300):
    """Frames that claim to be huge are not waited for: the connection ends long before the handshake time-out."""
    lengths = [b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff\x0f", wire.varint(1 << 20), b"\x80\x80\x80\x80\x80"]
    slowest = 0
    for index in range(count):
        sock = connect(ports["tcp"])
        sock.sendall(lengths[index % len(lengths)] + b"x" * 100)
        slowest = max(slowest, ends_within(sock, HANDSHAKE_S / 2))
        sock.close()
    return f"{count} giant lengths ended in {slowest:.1f} s at most"


def floods_before_login(ports, seconds=3):
    """Frames as fast as they go, without ever logging in: the connection ends after the few that a login needs."""
    kinds = [bytes([wire.PING]), bytes([wire.HELLO]) + wire.number(1, 1),
             bytes([wire.REQUEST]) + b"\x00\x01\x00\x01\x00\x00\x00\x01" + b"y" * 200]
    sent = ended = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sock = connect(ports["tcp"])
        frame = kinds[ended % len(kinds)]
        burst = (wire.varint(len(frame)) + frame) * 200
        try:
            for _ in range(50):
                sock.sendall(burst)
                sent += 200
        except OSError:
            pass
        ends_within(sock, HANDSHAKE_S + SLACK_S)
        sock.close()
        ended += 1
    return f"{sent} frames before login on {ended} connections"


def silent(ports, count=10_000):
    """Connections that never speak, from many addresses; the server ends every one after the handshake time-out."""
    socks, opened = [], time.monotonic()
    for index in range(count):
        # Each address has 28,000 ports of its own; four keep far from that.
        socks.append(connect(ports[("tcp", "ws")[index % 2]], f"127.0.0.{2 + index % 4}"))
    took = time.monotonic() - opened
    # Ten thousand ends at one moment: a machine that is busy with something else takes them one by one.
    ended = all_end(socks, HANDSHAKE_S + 3 * SLACK_S)
    return f"{count} silent connections opened in {took:.1f} s, all ended {ended:.1f} s later"
