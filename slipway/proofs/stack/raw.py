"""Sends bytes to the proxy over TLS that no client library would send, and reads what comes back."""

import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass

from slipway.proofs.harness import Stack


@dataclass
class Answer:
    data: bytes
    closed: bool  # by the proxy, in the time given

    @property
    def statuses(self) -> list[int]:
        """The status of every answer in it: a second one was smuggled."""
        return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", self.data)]


@dataclass
class Line:
    """Connects to one stack's proxy, with a new connection each time."""

    port: int
    trust: ssl.SSLContext

    @classmethod
    def to(cls, stack: Stack) -> "Line":
        return cls(int(stack.environment["HTTPS_PORT"]), stack.trust())

    def open(self, timeout: float = 5) -> ssl.SSLSocket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout)
        return self.trust.wrap_socket(connection, server_hostname="localhost")

    def send(self, data: bytes, timeout: float = 5) -> Answer:
        """Sends all bytes and reads until the proxy closes the connection, or is silent for the time given."""
        with self.open(timeout) as connection:
            with suppress(OSError):  # refused before everything was sent: the answer can still be read
                connection.sendall(data)
            return Answer(*read(connection))

    def get(self, path: str, *headers: str, method: str = "GET") -> Answer:
        return self.send(request(path, *headers, method=method))


def request(path: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    """A request that asks for the connection to be closed, so that the end of its answer is visible."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def read(connection: ssl.SSLSocket) -> tuple[bytes, bool]:
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except TimeoutError:
        return data, False
    except OSError:
        pass
    return data, True
