"""SQLAlchemy for a threaded, forking, long-running process."""

import logging
import os
import select
from collections.abc import Callable
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import psycopg2
import sqlalchemy
from psycopg2.extensions import connection as DriverConnection
from sqlalchemy import event, orm
from sqlalchemy.pool import ConnectionPoolEntry

from chassis.db import timing, waits
from chassis.db.absence import Absence
from chassis.db.pool import Pool
from chassis.observe import logs
from chassis.settings import Settings
from chassis.settings.address import Address
from chassis.settings.secret_file import SecretFile

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("database")

IDLE = 1.0  # seconds after which a pooled connection is tried before it is used


class Session(orm.Session):
    """Retries the first statement of a transaction on a new connection if its own turns out to be dead.

    A server that ends a session says so a moment later. By then nothing was committed, and nothing read.
    Closing it does not raise, since the answer is complete: it must not be lost to a failed rollback.
    """

    def close(self) -> None:
        try:
            super().close()
        except sqlalchemy.exc.SQLAlchemyError as failure:
            self.invalidate()
            log.warning("a connection was given up: %s", waits.reason(failure))

    if not TYPE_CHECKING:  # SQLAlchemy's own signatures say what each statement returns

        def execute(self, *arguments: Any, **options: Any) -> Any:
            return self._ask(super().execute, *arguments, **options)

        def scalar(self, *arguments: Any, **options: Any) -> Any:
            return self._ask(super().scalar, *arguments, **options)

        def scalars(self, *arguments: Any, **options: Any) -> Any:
            return self._ask(super().scalars, *arguments, **options)

    def _ask(self, method: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        first = not self.in_transaction()  # an object given to add() is part of one, too
        try:
            return method(*arguments, **options)
        except sqlalchemy.exc.DBAPIError as error:
            if not first or not error.connection_invalidated or waits.OVERDUE in str(error.orig):
                raise
        self.rollback()
        return method(*arguments, **options)


def create_engine(settings: Settings, absence: Absence | None = None, **options: Any) -> sqlalchemy.Engine:
    """The engine of a process; `options` go to SQLAlchemy.

    With an `absence`, it waits for the end of a short one, and fails at once while a long one lasts.
    """
    waits.bound_every_wait(settings, absence)
    pool = {"poolclass": Pool, "pool_size": settings.web_threads, "max_overflow": 0}
    engine = sqlalchemy.create_engine(
        engine_url(settings.database),
        connect_args=waits.connect_args(settings),
        pool_timeout=settings.database_pool_timeout,
        **{**pool, **options},
    )
    address = waits.LastAddress()
    event.listen(engine, "checkin", partial(_note_the_time, address))
    event.listen(engine, "checkout", partial(_find_out_whether_it_lives, engine.dialect, absence))
    event.listen(engine, "do_connect", _Connect(settings, address, absence))
    event.listen(engine, "before_cursor_execute", _add_ids, retval=True)
    if settings.traced:
        from chassis.observe import traces

        timing.listen(engine, traces.executed)
        if isinstance(engine.pool, Pool):
            engine.pool.listeners.append(traces.waited)
    # A child must neither use its parent's sockets nor close them under the parent.
    os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))
    return engine


def engine_url(address: Address) -> sqlalchemy.URL:
    return sqlalchemy.URL.create(
        "postgresql+psycopg2",  # SQLAlchemy takes a bare postgresql:// for psycopg 3
        username=address.user,
        password=address.password,
        host=address.host,  # in the URL that errors show; `waits.Hosts` says where to connect to
        port=address.port,
        database=address.name,
        query=dict(address.options),
    )


class _Connect:
    """Connects with the password that its file holds now, and to the last address while the name can't be looked up.

    While a password is being rotated, Postgres and the file differ for a moment: after a refusal it reads the file and
    tries again. It also retries a server that is not there, which may be restarting.
    """

    PAUSE, TIMEOUT = 0.1, 2.0  # seconds
    RESTART = 1.5  # seconds, so that a 503 is sent within two

    def __init__(self, settings: Settings, address: waits.LastAddress, absence: Absence | None) -> None:
        self.password = SecretFile("DATABASE_PASSWORD", settings.database.password)
        self.timeout = settings.database_connect_timeout
        self.hosts = waits.Hosts(settings.database)
        self.address, self.absence = address, absence

    def __call__(
        self, dialect: Any, record: object, arguments: list[Any], parameters: dict[str, Any]
    ) -> DriverConnection:
        begun = monotonic()
        own: dict[str, Any] = {}  # all threads share the engine's own parameters
        while True:
            if self.absence and self.absence.lasts():
                raise psycopg2.OperationalError("Postgres has been away for a while")
            own["password"] = self.password.read(at_once=True)
            own["connect_timeout"] = waits.seconds_to_connect(1 if "hostaddr" in own else self.timeout)
            try:
                connection = self.hosts.connect(partial(dialect.connect, *arguments, **parameters | own))
            except psycopg2.OperationalError as error:
                alone = len(self.hosts.order) == 1
                if alone and "hostaddr" not in own and (address := self.address.instead(error)):
                    own["hostaddr"] = address
                    continue
                if monotonic() > begun + self.seconds_to_try(error):
                    raise
                own.pop("hostaddr", None)
                sleep(self.PAUSE)
            else:
                self.address.note(connection)
                return connection

    def seconds_to_try(self, error: psycopg2.OperationalError) -> float:
        """For how many seconds to retry after this error."""
        if "password authentication failed" in str(error):
            return self.TIMEOUT if self.password.path else 0.0
        starting = not waits.has_answered(error) or "the database system is" in str(error)
        return min(self.RESTART, waits.seconds_left()) if self.absence and starting else 0.0


def _add_ids(
    connection: object, cursor: object, statement: str, parameters: T, context: object, many: bool
) -> tuple[str, T]:
    """Puts the ids of the request and the trace where pg_stat_activity and the log of slow statements show them."""
    request, trace = logs.request_id.get(), logs.trace_id.get()
    if request or trace:
        ids = " ".join(f"{name}={value}" for name, value in (("request_id", request), ("trace_id", trace)) if value)
        statement = f"/* {ids} */ {statement}"
    return statement, parameters


def _note_the_time(address: waits.LastAddress, connection: object, record: ConnectionPoolEntry) -> None:
    record.info["idle_since"] = now = monotonic()
    if connection is not None:  # None: the connection was given up
        address.answered[0] = now


def _find_out_whether_it_lives(
    dialect: Any,
    absence: Absence | None,
    connection: DriverConnection,
    record: ConnectionPoolEntry,
    proxy: object,
) -> None:
    """Checks a pooled connection before it is used, with a round trip only where that can help.

    A server that restarts or ends a session closes the socket or writes why, which the socket shows
    without a round trip. A network partition, which it can't show, takes longer than IDLE to come about.
    """
    since = record.info.pop("idle_since", None)
    if since is None:
        return  # it has just been opened
    if absence and absence.has_cut(since):
        raise sqlalchemy.exc.InvalidatePoolError("Postgres has been silent since the connection was used")
    socket = select.poll()
    socket.register(connection.fileno(), select.POLLIN)
    if monotonic() - since > IDLE or socket.poll(0):
        try:
            dialect.do_ping(connection)
        except psycopg2.Error as error:
            if not dialect.is_disconnect(error, connection, None):
                raise  # the server is there but does not answer: a new connection would not help
            raise sqlalchemy.exc.InvalidatePoolError(waits.reason(error)) from None  # a new one is opened
