"""Hung requests, which neither gunicorn under gthread nor uWSGI ends without the requests beside them."""

import functools
import logging
import math
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from time import monotonic
from typing import ClassVar, ParamSpec, Protocol, TypeVar

from chassis.observe import logs

P = ParamSpec("P")
T = TypeVar("T")

HUNG_GRACE = 5.0  # seconds that a hung request's neighbours get to finish


class Request(Protocol):
    method: str | None
    uri: str | None


class Watchdog:
    """Ends a worker with a hung request, and logs that request's stack.

    gunicorn's `timeout` watches the worker's main loop only: under gthread a stuck request holds its thread for ever.
    uWSGI's `harakiri` kills the worker with all of its requests. Here the worker stops accepting, its other requests
    get HUNG_GRACE seconds, and the server starts another worker in its place.

    The time that a request waits for its client does not count, see ClientsTurn.
    """

    running: ClassVar[dict[int, tuple[float, Request]]] = {}  # by thread: since when, infinite while paused

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def enter(self, request: Request) -> None:
        logs.request_id.set(None)  # the thread's last request is over, this one has no id yet
        self.running[threading.get_ident()] = monotonic(), request

    def leave(self) -> None:
        self.running.pop(threading.get_ident(), None)

    def start(self, stop_accepting: Callable[[], object]) -> None:
        threading.Thread(target=self.watch, args=(stop_accepting,), name="watchdog", daemon=True).start()

    def watch(self, stop_accepting: Callable[[], object]) -> None:
        tick = threading.Event()  # never set: its wait is a pause that a daemon thread may end in
        while not (hung := self.older_than(self.limit)):
            tick.wait(min(1.0, self.limit / 10))
        for thread, request in hung.items():
            self.report(thread, request)
        stop_accepting()
        until = monotonic() + HUNG_GRACE
        while set(self.running) - set(hung) and monotonic() < until:
            tick.wait(0.05)
        logging.shutdown()
        os._exit(1)  # an ordinary exit would join the thread that hangs

    def older_than(self, limit: float) -> dict[int, Request]:
        now = monotonic()
        return {thread: request for thread, (since, request) in self.running.copy().items() if now - since > limit}

    def report(self, thread: int, request: Request) -> None:
        frame = sys._current_frames().get(thread)
        stack = "".join(traceback.format_stack(frame)) if frame else "the thread is gone"
        logging.getLogger("watchdog").critical(
            "a request hung for over %g s (REQUEST_TIMEOUT): ending its worker",
            self.limit,
            extra={"method": request.method, "path": request.uri, "stack": stack},
        )


class ClientsTurn:
    """Stops a request's clock while its client sends or reads.

    Such a wait is bounded by the proxy: `write 5m` for a reader, `read_body` for a sender.
    """

    __slots__ = ("began", "paused", "since", "thread")

    def __init__(self, thread: int) -> None:
        self.thread = thread

    def __enter__(self) -> None:
        self.paused = None
        if watched := Watchdog.running.get(self.thread):
            self.since, request = watched
            self.began = monotonic()
            Watchdog.running[self.thread] = self.paused = math.inf, request

    def __exit__(self, *_: object) -> None:
        if self.paused and Watchdog.running.get(self.thread) is self.paused:  # the request has not ended meanwhile
            Watchdog.running[self.thread] = self.since + monotonic() - self.began, self.paused[1]


def clients_turn(method: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(method)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        with ClientsTurn(threading.get_ident()):
            return method(*arguments, **options)

    return call


class ClientSocket(socket.socket):
    """A connection's socket, wherever gunicorn reads and writes. It has the layout of its base, which it replaces."""

    __slots__ = ()
    recv = clients_turn(socket.socket.recv)
    send = clients_turn(socket.socket.send)
    sendall = clients_turn(socket.socket.sendall)
    sendfile = clients_turn(socket.socket.sendfile)
