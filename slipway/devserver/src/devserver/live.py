"""Server-sent events for the browsers that follow, from the one process that outlives every reload.

A worker hands such a connection over, socket and all. From then on it occupies no thread, however many tabs are open,
and holds up neither a reload nor a stop.
"""

import errno
import json
import os
import re
import socket
from pathlib import Path
from selectors import EVENT_READ, BaseSelector
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from devserver.state import Stamp

SCRIPT = Path(__file__).with_name("live.js")
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    b"retry: 300\n\n"
)
CLOSING = re.compile(rb"</body\s*>", re.IGNORECASE)
DOCUMENT = re.compile(rb"\s*(<!doctype|<html)", re.IGNORECASE)


class Hub:
    """The open connections. A slow one does not hold up the others: it is cut, and reconnects."""

    def __init__(self, selector: BaseSelector) -> None:
        self.selector, self.event = selector, b""
        self.clients: set[socket.socket] = set()

    def add(self, descriptor: int, first: bytes) -> None:
        client = socket.socket(fileno=descriptor)
        client.setblocking(False)
        self.clients.add(client)
        self.selector.register(client, EVENT_READ, lambda: self.heard(client))
        self.send(client, first)

    def tell(self, event: bytes) -> None:
        self.event = event
        for client in list(self.clients):
            self.send(client, event)

    def send(self, client: socket.socket, data: bytes) -> None:
        try:
            if client.send(data) < len(data):
                self.drop(client)
        except OSError:
            self.drop(client)

    def heard(self, client: socket.socket) -> None:
        """A client sends nothing after its request: if its socket is readable, it has left."""
        try:
            if client.recv(4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.drop(client)

    def drop(self, client: socket.socket) -> None:
        if client in self.clients:
            self.clients.remove(client)
            self.selector.unregister(client)
            client.close()

    def close(self) -> None:
        """In a fork: these connections are the parent's."""
        for client in self.clients:
            client.close()


def event(news: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(news).encode() + b"\n\n"


def hand_over(environ: WSGIEnvironment, channel: socket.socket, message: dict[str, Any]) -> None:
    """Gives the request's connection to the supervisor, and gunicorn one that leads nowhere in its place, since
    gunicorn shuts down what it closes. Raises ConnectionResetError, which gunicorn takes for a client that left."""
    connection = environ["gunicorn.socket"]
    socket.send_fds(channel, [json.dumps(message).encode()], [connection.fileno()])
    one, other = socket.socketpair()
    with one, other:
        os.dup2(one.fileno(), connection.fileno())
    raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


def inject(body: bytes, stamp: Stamp, method: str) -> bytes:
    """Adds the script to a page, as a file of the same origin, which a strict policy requires. A fragment stays."""
    if not DOCUMENT.match(body):
        return body
    tag = f'<script src="/_dev/live.js" data-stamp="{stamp}" data-method="{method}" defer></script>'.encode()
    closings = [found.start() for found in CLOSING.finditer(body)]
    place = closings[-1] if closings else len(body)
    return body[:place] + tag + body[place:]


def script(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    data = SCRIPT.read_bytes()
    headers = [("Content-Type", "text/javascript; charset=utf-8"), ("Cache-Control", "no-store")]
    start_response("200 OK", [*headers, ("Content-Length", str(len(data)))])
    return [data]
