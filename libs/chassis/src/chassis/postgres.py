"""How this project speaks to libpq: every wait has a bound. No SQLAlchemy here: the entrypoint starts fast.

What is bounded, and by what: a refused or silent host by the connect timeout; a dead peer by TCP
keepalives and `tcp_user_timeout` (tcp(7)); a slow statement or lock by Postgres itself; and a server
that is frozen, whose kernel still acknowledges, by the wait callback, since no libpq setting helps.
"""

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, STATUS_READY, set_wait_callback

from chassis.settings import Settings

# Over the statement timeout, so that Postgres is the one to cancel what is merely slow.
WAIT_MARGIN = 1.0  # seconds
QUICK = 0.001  # seconds: over what a statement by primary key takes

_usual = 0.0  # seconds that a wait takes, a moving average
_until: ContextVar[float] = ContextVar("postgres_until", default=float("inf"))


def connect_args(settings: Settings) -> dict[str, Any]:
    """Parameters for `psycopg2.connect` (libpq, 33.1.2)."""
    milliseconds = int(settings.database_statement_timeout * 1000)
    return {
        "application_name": f"{settings.database.name}@{socket.gethostname()}",
        "connect_timeout": settings.database_connect_timeout,
        "tcp_user_timeout": 5000,  # milliseconds
        "keepalives": 1,
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 2,
        "options": (
            f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds // 2}"
            f" -c idle_in_transaction_session_timeout={milliseconds * 3}"
        ),
    }


def before_a_wait() -> None:
    """Called where a thread is about to wait for Postgres; a worker puts its pool's `hand_over` here."""


def bound_every_wait(settings: Settings) -> None:
    """Makes psycopg2 give up where libpq would wait for ever. COPY does not work under it."""
    limit = settings.database_statement_timeout + WAIT_MARGIN

    def wait(connection: Any) -> None:
        connecting = connection.status < STATUS_READY
        allowed = settings.database_connect_timeout if connecting else limit
        until = min(monotonic() + allowed, _until.get())
        # Only raise in here: psycopg2 closes the connection itself, closing it here deadlocks.
        while (state := connection.poll()) != POLL_OK:
            poller = select.poll()  # not select(): a busy process has descriptors over 1023
            poller.register(connection.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
            if not comes(poller, until):
                raise psycopg2.OperationalError("Postgres did not answer in time")

    set_wait_callback(wait)


def comes(poller: select.poll, until: float) -> bool:
    """Whether Postgres lets us go on by then. A long wait is announced: at once where waits usually are long."""
    global _usual
    begun = monotonic()
    if not (came := _usual < QUICK and poller.poll(QUICK * 1000)):
        before_a_wait()
        came = poller.poll(max(0.0, until - monotonic()) * 1000)
    _usual += (monotonic() - begun - _usual) / 16
    return bool(came)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bounds all that this thread waits for Postgres inside the block."""
    token = _until.set(monotonic() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


def reason(error: BaseException) -> str:
    """A database error's first line: what happened, without the statement or its parameters."""
    original = getattr(error, "orig", None) or error
    text = str(original).strip()
    return text.splitlines()[0] if text else type(original).__name__
