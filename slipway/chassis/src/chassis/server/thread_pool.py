"""A worker's threads: a leader serves all connections in turn, until a request takes long.

When many threads of one interpreter are busy, each system call passes it to an arbitrary thread: a small request pays
for several thread switches, and an unlucky one waits for long. In the Leader/Followers pattern (Schmidt et al., POSA
2, 2000) one thread waits for all connections, and the others wait to take its place. Here the leader also serves what
it finds, in order of arrival. Only when a request takes longer than TURN, or announces a wait, does a deputy take the
lead, while the former leader finishes the request. So quick requests share one thread, and eight slow ones have eight.
"""

import logging
import os
import select
import selectors
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import Any

from gunicorn.workers import gthread

TURN = 0.005  # seconds that a request may take before the others stop waiting for it
REST = 1.0  # seconds that a connection stays here for its next request
DEFER: object = gthread._DEFER  # type: ignore[attr-defined] # gunicorn's mark of a connection that sent nothing
READ = 1  # select.EPOLLIN, selectors.EVENT_READ
QUIET = 10  # times that the deputy looks and finds no new request, before it sleeps


class Poller:
    """The part of select.epoll that is used here, for development on a system without it, such as macOS."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()

    def register(self, descriptor: int, events: int) -> None:
        with suppress(KeyError):  # of an earlier connection, which was closed
            self.selector.unregister(descriptor)
        self.selector.register(descriptor, events)

    def unregister(self, sock: Any) -> None:
        with suppress(KeyError):
            self.selector.unregister(sock)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        return [(key.fd, events) for key, events in self.selector.select(timeout)]


class LeaderPool:
    """Threads that call `handle(connection)` for each request, and `done(connection, future)` with the outcome.

    A connection is gunicorn's TConn. If `handle` returns True, the connection stays here for its next request, and is
    done after `rest` seconds without one. So is a new connection that sends nothing, with gunicorn's mark for that.
    """

    def __init__(
        self,
        threads: int,
        handle: Callable[[Any], object],
        done: Callable[[Any, Future[Any]], object],
        turn: float = TURN,
        rest: float = REST,
        waited: Callable[[float], object] | None = None,
    ) -> None:
        self.handle, self.done, self.turn, self.rest, self.waited = handle, done, turn, rest, waited
        self.ready: deque[Any] = deque()  # connections in the order in which they brought a request
        self.resting: dict[int, tuple[Any, float]] = {}  # the others by descriptor, with their deadlines; oldest first
        self.bell, self.rope = os.pipe()
        for end in (self.bell, self.rope):
            os.set_blocking(end, False)
        self.poller = select.epoll() if hasattr(select, "epoll") else Poller()
        self.poller.register(self.bell, READ)
        self.asleep = self.closed = False
        self.lock = threading.Lock()  # of the next three; the leader may read them without it
        self.leader: int | None = None  # a thread's id
        self.serving: Any = None  # the leader's connection
        self.began = 0.0  # when that connection's request began
        self.deputy = threading.Lock()
        self.wanted = threading.Event()  # no thread leads
        self.busy = threading.Event()  # a request has begun since the deputy fell asleep
        for number in range(threads):
            threading.Thread(target=self.work, name=f"request-{number}", daemon=True).start()

    def put(self, connection: Any) -> None:
        """Takes, from another thread, a connection that has a request or may have one."""
        connection.polled = False
        self.queue(connection)
        if self.asleep:
            self.ring()

    def queue(self, connection: Any) -> None:
        connection.since = monotonic()
        self.ready.append(connection)

    def let_go(self) -> None:
        """From now on, kept connections are done at once; new ones get gunicorn's time to send their request."""
        self.rest = 0.0
        self.ring()

    def shutdown(self, wait: bool = False) -> None:
        self.closed = True
        self.ring()

    def ring(self) -> None:
        with suppress(BlockingIOError):  # it rings already
            os.write(self.rope, b"!")

    def hand_over(self) -> None:
        """For a request that is about to wait, so that the others need not wait with it."""
        if self.serving and self.leader == threading.get_ident():
            self.step_down()

    def work(self) -> None:
        while not self.closed:
            with self.deputy:
                self.stand_by()
            try:
                self.lead()
            except Exception:  # such as no memory left: its connection is lost, the rest goes on
                logging.getLogger("pool").critical("a thread lost its connection", exc_info=True)
            self.step_down()

    def stand_by(self) -> None:
        """Waits, and returns as the leader."""
        quiet, last = 0, 0.0
        while not self.takes_the_lead():
            quiet, last = (quiet + 1 if last == self.began else 0), self.began
            if quiet > QUIET:
                self.busy.clear()
                if self.leader and not self.serving:
                    self.busy.wait()
            self.wanted.wait(self.turn)

    def takes_the_lead(self) -> bool:
        """Takes the lead if there is no leader, or if its request takes too long."""
        with self.lock:
            if self.leader and not (self.serving and monotonic() - self.began >= self.turn):
                return False
            self.leave_alone(self.serving)
            self.leader, self.serving = threading.get_ident(), None
            self.wanted.clear()
            return True

    def step_down(self) -> None:
        with self.lock:
            if self.leader == threading.get_ident():
                self.leave_alone(self.serving)
                self.leader = self.serving = None
                self.wanted.set()
                self.busy.set()

    def lead(self) -> None:
        """Leads until another thread does, or until the end."""
        while self.leader == threading.get_ident() and (connection := self.next_connection()):
            self.serve(connection)

    def next_connection(self) -> Any:
        """The connection whose turn it is; None at the end."""
        while not self.closed:
            self.asleep = True  # set before `ready` is read: put() goes in the other order
            events = self.poller.poll(0 if self.ready else self.until_one_has_rested())
            self.asleep = False
            for descriptor, _ in events:
                if descriptor == self.bell:
                    os.read(self.bell, 4096)
                elif descriptor in self.resting:
                    connection, _ = self.resting.pop(descriptor)
                    connection.data_ready = True
                    self.queue(connection)
            self.end_rests()
            while self.ready:
                connection = self.ready.popleft()
                if connection.data_ready or not (self.rest or connection.initialized):
                    return connection
                self.let_rest(connection)  # a connection that has sent nothing takes no thread
        return None

    def serve(self, connection: Any) -> None:
        self.began, self.serving = monotonic(), connection
        if self.waited:
            self.waited(self.began - connection.since)
        if not self.busy.is_set():
            self.busy.set()
        outcome: Future[object] = Future()
        try:
            outcome.set_result(self.handle(connection))
        except BaseException as error:  # gunicorn's main thread raises it, as it does with a pool of its own
            outcome.set_exception(error)
        with self.lock:
            if leads := self.leader == threading.get_ident():
                self.serving = None
        connection.data_ready = False
        if outcome.exception() or outcome.result() is not True or not self.rest:
            self.leave_alone(connection)
            self.done(connection, outcome)
        elif leads:
            self.let_rest(connection)
        else:
            self.put(connection)

    def let_rest(self, connection: Any) -> None:
        if connection.initialized and connection.parser.unreader.buf.getvalue():
            connection.data_ready = True  # what was read with the last request never shows on the socket
            self.queue(connection)
            return
        descriptor = connection.sock.fileno()
        if not connection.polled:
            self.poller.register(descriptor, READ)
            connection.polled = True
        self.resting[descriptor] = connection, monotonic() + self.rest

    def leave_alone(self, connection: Any) -> None:
        """From here on, its socket wakes no leader."""
        if connection and connection.polled:
            connection.polled = False
            with suppress(OSError, ValueError):  # closed meanwhile
                self.poller.unregister(connection.sock)

    def until_one_has_rested(self) -> float | None:
        for _, until in self.resting.values():
            return max(0.0, until - monotonic())
        return None

    def end_rests(self) -> None:
        now = monotonic()
        while self.resting:
            descriptor, (connection, until) = next(iter(self.resting.items()))
            if self.rest and until > now:
                break
            del self.resting[descriptor]
            self.leave_alone(connection)
            if self.rest or connection.initialized:
                outcome: Future[object] = Future()
                outcome.set_result(connection.initialized or DEFER)
                self.done(connection, outcome)
            else:
                self.queue(connection)
