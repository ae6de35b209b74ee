"""A relay between clients and a server of Kafka's protocol that cuts connections half-way through a reply."""
import pathlib
import random
import socket
import struct
import tempfile
import threading
import time


class Relay:
    """Listens on loopback. The server names itself in its answers; there the relay puts its own port, so that every
    connection comes through it."""

    def __init__(self, port, seed):
        self.target = port
        self.random = random.Random(seed)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.wanted = 0
        self.cuts = 0
        self.pairs = set()
        # While this file is there no request goes to the server.
        self.held = pathlib.Path(tempfile.mkdtemp(prefix="martlet-relay-")) / "held"
        threading.Thread(target=self.accept, daemon=True).start()

    def cut(self, count):
        """So many of the next answers that are no heartbeat's end half-way, and so do their connections."""
        with self.lock:
            self.wanted += count

    def quiet(self):
        """Nothing goes to the server from now on, and what it was doing is done."""
        self.held.touch()
        time.sleep(0.3)

    def resume(self):
        self.held.unlink()

    def close(self):
        self.listener.close()
        self.held.unlink(missing_ok=True)
        self.held.parent.rmdir()
        for pair in list(self.pairs):
            self.end(pair)

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (client, server)
            self.pairs.add(pair)
            threading.Thread(target=self.requests, args=(pair,), daemon=True).start()
            threading.Thread(target=self.answers, args=(pair,), daemon=True).start()

    def end(self, pair):
        self.pairs.discard(pair)
        for side in pair:
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            side.close()

    def requests(self, pair):
        client, server = pair
        try:
            while data := client.recv(65536):
                while self.held.exists():
                    time.sleep(0.01)
                server.sendall(data)
        except OSError:
            pass
        self.end(pair)

    def answers(self, pair):
        client, server = pair
        own, seen = (b"127.0.0.1" + struct.pack(">i", port) for port in (self.port, self.target))
        stream = server.makefile("rb")
        try:
            while len(head := stream.read(4)) == 4:
                frame = head + stream.read(struct.unpack(">i", head)[0]).replace(seen, own)
                if self.is_cut(len(frame)):
                    client.sendall(frame[: self.random.randrange(1, len(frame))])
                    break
                client.sendall(frame)
        except (OSError, ValueError):
            pass
        self.end(pair)

    def is_cut(self, size):
        # A heartbeat's answer has 14 bytes; a cut there would only be one more reconnection.
        with self.lock:
            if self.wanted == 0 or size <= 14 or self.random.random() < 0.7:
                return False
            self.wanted -= 1
            self.cuts += 1
            return True
