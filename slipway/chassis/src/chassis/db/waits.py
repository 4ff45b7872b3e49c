"""How this project uses libpq: every wait has a bound. No SQLAlchemy here, so that the entrypoint starts fast.

The bounds: the connect timeout for a host that refuses or is silent; TCP keepalives and `tcp_user_timeout` (tcp(7)) for
a dead peer; Postgres itself for a slow statement or lock; and our wait callback in psycopg2 for a frozen server, whose
kernel still acknowledges, so that no libpq setting helps.
"""

import math
import mmap
import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, STATUS_READY, set_wait_callback
from psycopg2.extensions import connection as Connection

from chassis.db.absence import Absence
from chassis.settings import Settings
from chassis.settings.address import Address

# Added to the statement timeout, so that Postgres itself cancels a statement that is merely slow.
WAIT_MARGIN = 1.0  # seconds
QUICK = 0.001  # seconds: more than a statement by primary key takes
LOOK = 0.5  # seconds between two checks of whether the server is known to be silent
SILENCE = 0.5  # seconds that a wait may take while the server is known to be silent
OVERDUE = "Postgres did not answer in time"

_until: ContextVar[float] = ContextVar("postgres_until", default=float("inf"))
# When the request that this thread works for is over: it moves while the client has its turn.
request_ends: ContextVar[Callable[[], float]] = ContextVar("request_ends", default=lambda: math.inf)


def connect_args(settings: Settings, session: str = "") -> dict[str, Any]:
    """Parameters for `psycopg2.connect` (libpq, 33.1.2); what DATABASE_URL says comes first. `session` replaces our
    settings of the session, which a pooler may not take: `options=` in the URL leaves them out."""
    milliseconds = int(settings.database_statement_timeout * 1000)
    return {
        "application_name": f"{settings.database.name}@{socket.gethostname()}",
        "connect_timeout": settings.database_connect_timeout,
        "tcp_user_timeout": 5000,  # milliseconds
        "keepalives": 1,
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 2,
        "options": session
        or (
            "-c DateStyle=ISO"  # else psycopg2 sets it, in a round trip that nothing bounds
            f" -c statement_timeout={milliseconds} -c lock_timeout={milliseconds // 2}"
            f" -c idle_in_transaction_session_timeout={milliseconds * 3}"
        ),
        **dict(settings.database.options),
    }


class Hosts:
    """The hosts of a database, in the order in which to try them: one that fails moves to the end.

    libpq tries several by itself, but stays with a silent one: with a wait callback, its timeout does not count.
    """

    def __init__(self, address: Address) -> None:
        self.order = [{"host": host, "port": port} for host, port in address.hosts]

    def connect(self, opener: Callable[..., Connection]) -> Connection:
        """Calls `opener(host=…, port=…)` for one after the other. Raises what the only one raised, or all that they
        did, a line each."""
        failures = []
        for place in self.order:  # a failure replaces the list
            try:
                return opener(**place)
            except psycopg2.OperationalError as failure:
                if len(self.order) == 1:
                    raise
                failures.append(reason(failure))
                self.order = sorted(self.order, key=lambda each: each is place)
                if seconds_left() <= 0:
                    break  # the next attempt begins with the next host; without time, each would fail and none move
        raise psycopg2.OperationalError("\n".join(failures))


class _Bounds:
    """This process's bounds: psycopg2 has one callback for all connections."""

    limit = to_connect = math.inf  # seconds
    absence: Absence | None = None
    announce: Callable[[], None] | None = None
    usual = 0.0  # seconds that a wait takes, a moving average


def bound_every_wait(settings: Settings, absence: Absence | None = None) -> None:
    """Makes psycopg2 give up where libpq would wait for ever; COPY does not work then (its manual, "green" mode)."""
    _Bounds.absence = absence or _Bounds.absence
    _Bounds.limit = settings.database_statement_timeout + WAIT_MARGIN
    _Bounds.to_connect = settings.database_connect_timeout
    set_wait_callback(_wait)


def announce_to(hand_over: Callable[[], None]) -> None:
    """Calls it before a wait if recent waits took longer than QUICK, so that other requests need not wait with it."""
    _Bounds.announce = hand_over


def _wait(connection: Connection) -> None:
    begun = monotonic()
    limit = _Bounds.to_connect if connection.status < STATUS_READY else _Bounds.limit
    until = begun + min(limit, seconds_left())
    if _Bounds.announce and _Bounds.usual > QUICK:
        _Bounds.announce()
    try:
        # Only raise in here: psycopg2 closes the connection itself, closing it here deadlocks.
        while (state := connection.poll()) != POLL_OK:
            poller = select.poll()  # not select(): a busy process has descriptors over 1023
            poller.register(connection.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
            while not poller.poll(max(0.0, min(until - monotonic(), LOOK)) * 1000):
                if monotonic() >= until or _is_in_vain(begun):
                    raise psycopg2.OperationalError(OVERDUE)
    finally:
        _Bounds.usual += (monotonic() - begun - _Bounds.usual) / 16


def _is_in_vain(begun: float) -> bool:
    """Whether the server is known to be silent, and nothing else bounds this wait."""
    away = _Bounds.absence is not None and _Bounds.absence.is_silent()
    return away and begun < monotonic() - SILENCE and _until.get() == math.inf


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bounds the time that this thread waits for Postgres inside the block."""
    token = _until.set(monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


def seconds_to_connect(allowed: int) -> int:
    """The value of libpq's `connect_timeout` here, in whole seconds."""
    return max(1, math.ceil(min(allowed, seconds_left())))


def seconds_left() -> float:
    """Until what bounds this thread's waits ends, the block or the request; infinite if nothing does."""
    return min(_until.get(), request_ends.get()()) - monotonic()


def has_answered(error: BaseException) -> bool:
    """Whether the server sent this error: a refused connection has no SQLSTATE, but the word FATAL in libpq's text."""
    original = getattr(error, "orig", None) or error
    return getattr(original, "pgcode", None) is not None or "FATAL" in str(original)


class LastAddress:
    """The last address of the database's name, known to all forks, for use while the resolver is silent.

    In a container the engine is the resolver, and while it restarts or is busy with images it may be silent for
    seconds. The address is trusted for TRUST seconds after the database has answered there; later it may be another
    host's.
    """

    TRUST = 30.0  # seconds
    SILENCE = "Temporary failure in name resolution"  # gai_strerror(3) of EAI_AGAIN

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 64)
        self.answered = memoryview(self.memory)[:8].cast("d")  # when, by the clock that all processes share

    def note(self, connection: Connection) -> None:
        """Notes the peer of a connection that has just been opened."""
        with socket.socket(fileno=os.dup(connection.fileno())) as its:
            if its.family != socket.AF_UNIX:
                self.memory[8:] = its.getpeername()[0].encode().ljust(56, b"\0")
                self.answered[0] = monotonic()

    def instead(self, error: BaseException) -> str | None:
        """The address to connect to if the lookup failed because the resolver is silent; else None."""
        if self.SILENCE in str(error) and self.answered[0] > monotonic() - self.TRUST:
            return self.memory[8:].rstrip(b"\0").decode() or None
        return None


def reason(error: BaseException) -> str:
    """A database error's first line: what happened, without the statement or its parameters."""
    original = getattr(error, "orig", None) or error
    text = str(original).strip()
    return text.splitlines()[0] if text else type(original).__name__
