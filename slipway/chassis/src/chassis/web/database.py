"""Postgres behind a Flask app: a session per request, 503 while it is away, checks for readiness and the status."""

import importlib
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import psycopg2.errors
import sqlalchemy
from flask import Flask, current_app, g
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.wrappers import Response

from chassis.db import engine, waits
from chassis.db.absence import Absence
from chassis.db.revisions import Revisions
from chassis.observe import timeseries
from chassis.settings import Settings
from chassis.web import checks, errors, health

REPORT_TIMEOUT = 1.0  # seconds


class Database:
    """`app.extensions["database"]`: an engine for requests, and a separate connection for readiness.

    The state of a pool that is busy with requests says nothing about the database.
    """

    def __init__(self, settings: Settings, revisions: Revisions) -> None:
        self.revisions, self.absence = revisions, Absence()
        self.engine = engine.create_engine(settings, self.absence)
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

    def report(self) -> dict[str, Any]:
        """A round trip, and the revisions that the database has and this code needs."""
        needed = sorted(self.revisions.heads)
        try:
            with waits.within(REPORT_TIMEOUT):
                connection = session().connection()
                start = perf_counter()
                version = connection.scalar(sqlalchemy.text("SHOW server_version"))
                took = perf_counter() - start
                current = _current(connection) if self.revisions.known else []
        except SQLAlchemyError as error:
            current_app.logger.warning("the status found no database: %s", waits.reason(error))
            timeseries.count_lost_ping()
            return {"answers": False, "needed": needed}
        timeseries.count_ping(took)
        return {
            "answers": True,
            "version": version.split()[0],
            "milliseconds": round(took * 1000, 2),
            "current": current,
            "needed": needed,
            "pending": self.revisions.behind(set(current)),
        }


def init_app(app: Flask, settings: Settings) -> None:
    """A request's session is closed when the request ends. Migrations lie beside `src`, as in every service."""
    database = Database(settings, Revisions(Path(app.root_path).parents[1] / "migrations"))
    app.extensions["database"] = database
    health.add_checks(app, {"database": database.is_ready})
    app.teardown_appcontext(_close_session)
    app.shell_context_processor(_names_for_the_shell)
    app.register_error_handler(sqlalchemy.exc.OperationalError, _unavailable)
    app.register_error_handler(sqlalchemy.exc.TimeoutError, _unavailable)
    app.register_error_handler(sqlalchemy.exc.InternalError, _read_only)


def session() -> engine.Session:
    """The request's session. Nothing is written until its `commit()`."""
    if "session" not in g:
        g.session = engine.Session(current_app.extensions["database"].engine)
    current: engine.Session = g.session
    return current


def _current(connection: sqlalchemy.Connection) -> list[str]:
    """The revisions that the database is at; none if it was never migrated."""
    if connection.scalar(sqlalchemy.text("SELECT to_regclass('alembic_version')")) is None:
        return []
    return sorted(connection.scalars(sqlalchemy.text("SELECT version_num FROM alembic_version")))


def _names_for_the_shell() -> dict[str, Any]:
    """The names in `flask shell` besides `app` and `g`: the session, and the service's models by name."""
    models = importlib.import_module(f"{current_app.import_name.partition('.')[0]}.models")
    classes = [mapper.class_ for mapper in models.Base.registry.mappers]
    return {"session": session(), "select": sqlalchemy.select} | {each.__name__: each for each in classes}


def _close_session(error: BaseException | None) -> None:
    if (current := g.pop("session", None)) is None:
        return
    try:
        current.close()
    except SQLAlchemyError as failure:  # the answer is complete: it must not be lost to a failed rollback
        current.invalidate()
        current_app.logger.warning("a connection was given up: %s", waits.reason(failure))


def _unavailable(error: Exception) -> Response:
    current_app.logger.warning("the database is unavailable: %s", waits.reason(error))
    busy = ServiceUnavailable("The database does not answer. Try again in a moment.", retry_after=2)
    return errors.answer(busy)


def _read_only(error: sqlalchemy.exc.InternalError) -> Response:
    """Answers 503 to writes that are refused while `make upgrade-postgres` copies the rows."""
    if isinstance(error.orig, psycopg2.errors.ReadOnlySqlTransaction):
        return _unavailable(error)
    raise error
