"""How this project speaks to libpq: every wait has a bound. No SQLAlchemy here: the entrypoint starts fast.

What is bounded, and by what: a refused or silent host by the connect timeout; a dead peer by TCP
keepalives and `tcp_user_timeout` (tcp(7)); a slow statement or lock by Postgres itself; and a server
that is frozen, whose kernel still acknowledges, by us, since no libpq setting helps. Where the thread that
waits is all that there is, a program's main one, it looks at the clock itself, in psycopg2's wait callback. Where it is
one of a server's, it waits in libpq, which costs a third less CPU, and a thread beside it looks at the clock.
"""

import functools
import math
import mmap
import os
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from time import monotonic
from typing import Any

import psycopg2
from psycopg2 import extensions
from psycopg2.extensions import POLL_OK, POLL_READ, STATUS_READY, set_wait_callback

from chassis.db.absence import Absence
from chassis.settings import Settings

# Over the statement timeout, so that Postgres is the one to cancel what is merely slow.
WAIT_MARGIN = 1.0  # seconds
QUICK = 0.001  # seconds: over what a statement by primary key takes
LOOK = 1.0  # seconds between two looks at the clock where nothing is due: each takes the interpreter from a request
SILENCE = 0.5  # seconds that a wait may take while it is known that the server says nothing
OVERDUE = "Postgres did not answer in time"

_until: ContextVar[float] = ContextVar("postgres_until", default=float("inf"))


def connect_args(settings: Settings) -> dict[str, Any]:
    """Parameters for `psycopg2.connect` (libpq, 33.1.2)."""
    milliseconds = int(settings.database_statement_timeout * 1000)
    return {
        "connection_factory": Connection,
        "application_name": f"{settings.database.name}@{socket.gethostname()}",
        "connect_timeout": settings.database_connect_timeout,
        "tcp_user_timeout": 5000,  # milliseconds
        "keepalives": 1,
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 2,
        "options": (
            "-c DateStyle=ISO"  # psycopg2 would set it by itself, in a round trip that nothing bounds
            f" -c statement_timeout={milliseconds} -c lock_timeout={milliseconds // 2}"
            f" -c idle_in_transaction_session_timeout={milliseconds * 3}"
        ),
    }


def bound_every_wait(settings: Settings, absence: Absence | None = None) -> None:
    """Makes psycopg2 give up where libpq would wait for ever. COPY works in a server alone."""
    _watch.absence = absence or _watch.absence
    _watch.limit = settings.database_statement_timeout + WAIT_MARGIN
    _watch.to_connect = settings.database_connect_timeout
    if not _watch.on:
        set_wait_callback(_wait_and_look)


def _wait_and_look(connection: Any) -> None:
    connecting = connection.status < STATUS_READY
    until = min(monotonic() + (_watch.to_connect if connecting else _watch.limit), _until.get())
    # Only raise in here: psycopg2 closes the connection itself, closing it here deadlocks.
    while (state := connection.poll()) != POLL_OK:
        poller = select.poll()  # not select(): a busy process has descriptors over 1023
        poller.register(connection.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
        if not poller.poll(max(0.0, until - monotonic()) * 1000):
            raise psycopg2.OperationalError(OVERDUE)


def watch_waits(announce: Callable[[], None] = lambda: None) -> None:
    """From now on a thread of this process bounds its waits: for a server, whose threads only wait.

    `announce` is called before a wait where waits have taken longer than QUICK of late.
    """
    _watch.announce = announce
    _watch.start()


class _Watch:
    """Ends waits that are overdue, by closing their sockets for both directions."""

    def __init__(self) -> None:
        self.on = False
        self.limit = self.to_connect = math.inf  # seconds
        self.absence: Absence | None = None
        self.announce: Callable[[], None] = lambda: None
        self.usual = 0.0  # seconds that a wait takes, a moving average
        self.waits: dict[int, _Wait] = {}  # by thread
        self.next_look = math.inf  # a wait that is due before it wakes the thread
        self.sooner = threading.Event()
        self.lock = threading.Lock()
        os.register_at_fork(after_in_child=self._stop)

    def start(self) -> None:
        self.on = True
        set_wait_callback(None)
        threading.Thread(target=self._run, name="postgres-watch", daemon=True).start()

    def _stop(self) -> None:
        """A fork takes no thread along, and maybe a lock that nobody will release."""
        self.waits, self.lock, self.sooner = {}, threading.Lock(), threading.Event()
        if self.on:
            self.on = False
            set_wait_callback(_wait_and_look)

    def _run(self) -> None:
        while True:
            self.next_look = math.inf  # who begins to wait from here on, wakes us
            waits, now = self.waits.copy(), monotonic()
            silent = self.absence is not None and self.absence.is_silent()
            for thread, wait in waits.items():
                if wait.until <= now or (silent and wait.since < now - SILENCE and not wait.bounded):
                    self._end(thread, wait)
            due = min((wait.until for wait in waits.values() if wait.until > now), default=math.inf)
            self.next_look = min(due, now + LOOK)
            self.sooner.wait(max(0.0, self.next_look - monotonic()))
            self.sooner.clear()

    def _end(self, thread: int, wait: "_Wait") -> None:
        with self.lock:  # under which a wait ends by itself: after that, its descriptor may be another's
            if self.waits.get(thread) is wait and not wait.overdue:
                wait.overdue = True
                with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(wait.fileno())) as its:
                    its.shutdown(socket.SHUT_RDWR)


class _Wait:
    """What a thread waits for, and until when it may."""

    __slots__ = ("bounded", "fileno", "overdue", "since", "until")

    def __init__(self, fileno: Callable[[], int]) -> None:
        self.fileno = fileno
        self.overdue = False
        self.renew()

    def renew(self) -> None:
        self.since, self.bounded = monotonic(), _until.get() < math.inf
        self.until = min(self.since + _watch.limit, _until.get())


_watch = _Watch()


def _watched(method: Callable) -> Callable:
    """One of psycopg2's methods that speak to Postgres; OperationalError where it does not answer in time."""

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        if not _watch.on:
            return method(self, *arguments, **options)
        if _watch.usual > QUICK:
            _watch.announce()
        begun, thread = monotonic(), threading.get_ident()
        outer = _watch.waits.get(thread)  # such as an executemany whose rows are asked of the database
        wait = _watch.waits[thread] = _Wait(getattr(self, "connection", self).fileno)
        if wait.until < _watch.next_look:
            _watch.sooner.set()
        try:
            return method(self, *arguments, **options)
        except psycopg2.Error:
            if wait.overdue:
                raise psycopg2.OperationalError(OVERDUE) from None
            raise
        finally:
            with _watch.lock:
                if outer:
                    outer.renew()
                    _watch.waits[thread] = outer
                else:
                    del _watch.waits[thread]
            _watch.usual += (monotonic() - begun - _watch.usual) / 16

    return call


def _each_by_itself(rows: Iterable) -> Iterator:
    """The rows of `executemany`, each of which is a statement and has the time of one."""
    for row in rows:
        if wait := _watch.waits.get(threading.get_ident()):
            wait.renew()
        yield row


class Cursor(extensions.cursor):
    execute = _watched(extensions.cursor.execute)
    callproc = _watched(extensions.cursor.callproc)
    copy_expert = _watched(extensions.cursor.copy_expert)
    copy_from = _watched(extensions.cursor.copy_from)
    copy_to = _watched(extensions.cursor.copy_to)

    @_watched
    def executemany(self, query: Any, rows: Iterable) -> None:
        super().executemany(query, _each_by_itself(rows))


class NamedCursor(Cursor):
    """The server's, which is asked for each batch of rows."""

    close = _watched(extensions.cursor.close)
    fetchone = _watched(extensions.cursor.fetchone)
    fetchmany = _watched(extensions.cursor.fetchmany)
    fetchall = _watched(extensions.cursor.fetchall)
    scroll = _watched(extensions.cursor.scroll)
    __next__ = _watched(extensions.cursor.__next__)


class Connection(extensions.connection):
    commit = _watched(extensions.connection.commit)
    rollback = _watched(extensions.connection.rollback)

    def cursor(self, name: str | None = None, cursor_factory: Any = None, **options: Any) -> Any:
        return super().cursor(name, cursor_factory or (NamedCursor if name else Cursor), **options)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bounds all that this thread waits for Postgres inside the block."""
    token = _until.set(monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


def seconds_to_connect(allowed: int) -> int:
    """What libpq's `connect_timeout` may be here, which knows whole seconds."""
    return max(1, math.ceil(min(allowed, seconds_left())))


def seconds_left() -> float:
    """Until the end of the block that bounds this thread's waits; infinite outside of one."""
    return _until.get() - monotonic()


def has_answered(error: BaseException) -> bool:
    """Whether it was the server that said so: a refusal of a connection has no code, but a word that libpq gives."""
    original = getattr(error, "orig", None) or error
    return getattr(original, "pgcode", None) is not None or "FATAL" in str(original)


class LastAddress:
    """Where the database's name led to last, known to all forks: for while the resolver says nothing.

    In a container the engine is the resolver, and one that is busy with images, or that restarts, may be silent for
    seconds. Only trusted for TRUST seconds after the database has answered there: later, it may be another's.
    """

    TRUST = 30.0  # seconds
    SILENCE = "Temporary failure in name resolution"  # gai_strerror(3) of EAI_AGAIN

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 64)
        self.answered = memoryview(self.memory)[:8].cast("d")  # when, by the clock that all processes share

    def note(self, connection: Any) -> None:
        """The peer of a connection that has just been opened."""
        with socket.socket(fileno=os.dup(connection.fileno())) as its:
            if its.family != socket.AF_UNIX:
                self.memory[8:] = its.getpeername()[0].encode().ljust(56, b"\0")
                self.answered[0] = monotonic()

    def instead(self, error: BaseException) -> str | None:
        """The address to connect to where this is how the lookup failed."""
        if self.SILENCE in str(error) and self.answered[0] > monotonic() - self.TRUST:
            return self.memory[8:].rstrip(b"\0").decode() or None
        return None


def reason(error: BaseException) -> str:
    """A database error's first line: what happened, without the statement or its parameters."""
    original = getattr(error, "orig", None) or error
    text = str(original).strip()
    return text.splitlines()[0] if text else type(original).__name__
