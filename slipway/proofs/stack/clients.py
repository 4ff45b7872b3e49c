"""Fifty requests a second through the proxy: HTTP/1.1 and HTTP/2, each on new connections and on kept ones.

Clients ask once more on another connection where one that was kept had ended before the answer (RFC 9110, 9.2.2), and
where HTTP/2 says that the request was not processed (RFC 9113, 8.7); of all others, each error is a failure. Frames and
headers are written out: a library for HTTP/2 would refuse what comes after a GOAWAY.
"""

import socket
import ssl
import threading
import time
from collections import Counter

from slipway.proofs.stack.flood import frame

KINDS = ("HTTP/1.1, new", "HTTP/1.1, kept", "HTTP/2, new", "HTTP/2, kept")
EACH, RATE = 2, 6.25  # clients of each kind, and requests a second of each client: 50 in all
RESOURCE = "/version"


class Ended(Exception):
    """The connection ended, and this request was not answered at all."""


class Refused(Ended):
    """The server says that it has not processed this request: any client may ask again."""


class Http1:
    protocols = ("http/1.1",)

    def __init__(self, connection: ssl.SSLSocket, host: str) -> None:
        self.connection, self.host, self.closing = connection, host, False

    def get(self, path: str) -> int:
        """The status. Raises Ended, and OSError if an answer had begun."""
        try:
            self.connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
            data = self.connection.recv(65536)
        except (ConnectionError, ssl.SSLError) as error:
            raise Ended(repr(error)) from None
        if not data:
            raise Ended("closed")
        while b"\r\n\r\n" not in data:
            data += self.more()
        head, _, body = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
        left = int(fields["content-length"]) - len(body)
        while left > 0:
            left -= len(self.more())
        self.closing = fields.get("connection") == "close"
        return int(head.split()[1])

    def more(self) -> bytes:
        if not (data := self.connection.recv(65536)):
            raise ConnectionError("cut in an answer")
        return data


class Http2:
    protocols = ("h2",)

    def __init__(self, connection: ssl.SSLSocket, host: str) -> None:
        self.connection, self.host, self.closing, self.stream, self.data = connection, host, False, -1, b""
        window = frame(8, 0, 0, (2**30).to_bytes(4, "big"))  # WINDOW_UPDATE, for all answers to come
        self.connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + window)

    def get(self, path: str) -> int:
        """The status, 200 or 0. Raises Ended, and OSError if an answer had begun or was cut."""
        self.stream, status = self.stream + 2, None
        fields = b"\x82\x87" + text(4, path) + text(1, self.host)
        try:
            self.connection.sendall(frame(1, 5, self.stream, fields))
        except (ConnectionError, ssl.SSLError) as error:
            raise Ended(repr(error)) from None
        while True:
            kind, flags, stream, payload = self.read(status is None)
            if kind == 4 and not flags:  # SETTINGS
                self.connection.sendall(frame(4, 1, 0, b""))
            elif kind == 6 and not flags:  # PING
                self.connection.sendall(frame(6, 1, 0, payload))
            elif kind == 7:  # GOAWAY, with the last stream that will be answered
                self.closing = True
                if int.from_bytes(payload[:4], "big") < self.stream:
                    raise Refused("GOAWAY")
            elif stream == self.stream:
                if kind == 3:  # RST_STREAM
                    refused = int.from_bytes(payload, "big") == 7
                    raise Refused("REFUSED_STREAM") if refused else ConnectionError(f"reset with {payload!r}")
                if kind == 1:  # HEADERS
                    status = 200 if b"\x88" in payload[:2] else 0
                if flags & 1:  # END_STREAM
                    return status or 0

    def read(self, unanswered: bool) -> tuple[int, int, int, bytes]:
        try:
            head = self.exactly(9)
            payload = self.exactly(int.from_bytes(head[:3], "big"))
        except (ConnectionError, ssl.SSLError) as error:
            if unanswered:
                raise Ended(repr(error)) from None
            raise
        return head[3], head[4], int.from_bytes(head[5:], "big"), payload

    def exactly(self, count: int) -> bytes:
        while len(self.data) < count:
            if not (more := self.connection.recv(65536)):
                raise ConnectionError("closed")
            self.data += more
        wanted, self.data = self.data[:count], self.data[count:]
        return wanted


def text(name: int, value: str) -> bytes:
    """A header field, its name by number: literal, without indexing (RFC 7541, 6.2.2)."""
    return bytes([name, len(value)]) + value.encode()


class Clients:
    """A context manager: they ask inside it, and afterwards it holds the figures."""

    def __init__(self, certificate: str, port: int, address: str = "127.0.0.1", host: str = "localhost") -> None:
        self.address, self.host = (address, port), host
        self.answered: Counter[str] = Counter()
        self.retried: Counter[str] = Counter()
        self.failed: list[tuple[float, str, str]] = []  # when, how it was asked, why
        self.slowest = 0.0  # seconds
        self.trust = {}
        for each in (Http1, Http2):
            self.trust[each] = ssl.create_default_context(cadata=certificate)
            self.trust[each].set_alpn_protocols(each.protocols)

    def __enter__(self) -> "Clients":
        self.began, self.stopping = time.monotonic(), threading.Event()
        self.running = [threading.Thread(target=self.ask, args=(kind,), daemon=True) for kind in KINDS * EACH]
        for thread in self.running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.running:
            thread.join(60)

    def opened(self, kind: str) -> Http1 | Http2:
        protocol = Http2 if "HTTP/2" in kind else Http1
        plain = socket.create_connection(self.address, 60)
        return protocol(self.trust[protocol].wrap_socket(plain, server_hostname=self.host), self.host)

    def ask(self, kind: str) -> None:
        kept: Http1 | Http2 | None = None
        due = time.monotonic()
        while not self.stopping.wait(max(0.0, due - time.monotonic())):
            due, begun = due + 1 / RATE, time.monotonic()
            try:
                kept = self.asked(kind, kept)
            except (OSError, Ended) as error:
                self.failed.append((round(begun - self.began, 2), kind, repr(error)))
                kept = None
            self.answered[kind] += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)

    def asked(self, kind: str, kept: Http1 | Http2 | None) -> Http1 | Http2 | None:
        """Asks on the kept connection, or else a new one; returns it for the next request if it is kept."""
        connection = kept or self.opened(kind)
        try:
            status = connection.get(RESOURCE)
        except Ended as error:
            connection.connection.close()
            if not kept and not isinstance(error, Refused):
                raise
            self.retried[f"{kind}: {error}"] += 1
            connection = self.opened(kind)
            status = connection.get(RESOURCE)
        if status != 200:
            raise OSError(f"answered with {status}")
        if "kept" in kind and not connection.closing:
            return connection
        connection.connection.close()
        return None

    @property
    def total(self) -> int:
        return sum(self.answered.values())

    def __str__(self) -> str:
        retried = f", {sum(self.retried.values())} asked twice" if self.retried else ""
        return f"{self.total} requests, {len(self.failed)} failed{retried}, slowest {self.slowest:.2f} s"
