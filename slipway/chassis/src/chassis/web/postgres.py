"""Postgres behind an app of any framework: an engine for requests, and the check of readiness."""

from pathlib import Path
from time import monotonic, perf_counter

import psycopg2.errors
import sqlalchemy
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from chassis.db import engine, errors, waits
from chassis.db.absence import Absence
from chassis.db.pool import pool_of
from chassis.db.revisions import Revisions
from chassis.observe import gauges, metrics, timeseries
from chassis.settings import Settings
from chassis.web import checks

# What a request raises while Postgres is away, if it is not to be told apart from others: see `is_unavailable`.
ERRORS = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.TimeoutError, sqlalchemy.exc.InternalError)
UNAVAILABLE = "The database does not answer. Try again in a moment."
RETRY_AFTER = 2  # seconds


class Database:
    """An engine for requests, and a separate connection for readiness.

    The state of a pool that is busy with requests says nothing about the database. Migrations are in `migrations`,
    beside the `src` of the service's package.
    """

    def __init__(self, settings: Settings, package: Path) -> None:
        self.revisions, self.absence = Revisions(package.parents[1] / "migrations"), Absence()
        self.engine = engine.create_engine(settings, self.absence)
        measure(self.engine)
        self.aside = engine.create_engine(settings, pool_size=1)

    def dispose(self) -> None:
        self.engine.dispose()
        self.aside.dispose()

    def is_ready(self) -> tuple[bool, str]:
        """The check `database`: it answers, and has this release's revision or a later one."""
        begun = monotonic()
        statement = "SELECT version_num FROM alembic_version" if self.revisions.known else "SELECT 1"
        try:
            with waits.within(checks.TIMEOUT), self.aside.connect() as connection:
                start = perf_counter()
                rows = connection.execute(sqlalchemy.text(statement)).scalars().all()
                timeseries.count_ping(perf_counter() - start)
        except ProgrammingError:  # no such table: not migrated at all
            rows = []
        except SQLAlchemyError as error:
            timeseries.count_lost_ping()
            self.absence.note(begun, silent=not waits.has_answered(error))
            raise
        self.absence.end()
        if self.revisions.behind(set(rows)):
            return False, "migrations are pending"
        return True, "answers"


def measure(engine: sqlalchemy.Engine) -> None:
    """Counts waits for its pool, and errors, for `/metrics`."""

    def connected(begun: float, ended: float, failure: Exception | None) -> None:
        metrics.CONNECTION_WAITS.observe(ended - begun)
        if isinstance(failure, sqlalchemy.exc.TimeoutError):
            metrics.DATABASE_ERRORS.labels(errors.kind(failure)).inc()

    def failed(context: sqlalchemy.ExceptionContext) -> None:
        metrics.DATABASE_ERRORS.labels(errors.kind(context.original_exception)).inc()

    pool_of(engine).listeners.append(connected)
    sqlalchemy.event.listen(engine, "handle_error", failed)
    gauges.sources["database_pool_size"] = lambda: pool_of(engine).size()
    gauges.sources["database_pool_in_use"] = lambda: pool_of(engine).checkedout()
    gauges.sources["database_pool_waiting"] = lambda: len(pool_of(engine).waiting)


def is_unavailable(error: BaseException) -> bool:
    """Whether one of ERRORS means 503: it is away, or refuses writes while `make upgrade-postgres` copies rows."""
    if isinstance(error, sqlalchemy.exc.InternalError):
        return isinstance(error.orig, psycopg2.errors.ReadOnlySqlTransaction)
    return isinstance(error, ERRORS)
