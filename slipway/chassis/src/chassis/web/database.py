"""Postgres behind a Flask app: a session per request, 503 while it is away, checks for readiness and the status."""

import importlib
from pathlib import Path
from time import perf_counter
from typing import Any

import sqlalchemy
from flask import Flask, current_app, g
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.wrappers import Response

from chassis.db import engine, waits
from chassis.observe import timeseries
from chassis.settings import Settings
from chassis.web import errors, health, postgres

REPORT_TIMEOUT = 1.0  # seconds


class Database(postgres.Database):
    """`app.extensions["database"]`."""

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
    """A request's session is closed when the request ends."""
    database = Database(settings, Path(app.root_path))
    app.extensions["database"] = database
    health.add_checks(app, {"database": database.is_ready})
    app.teardown_appcontext(_close_session)
    app.shell_context_processor(_names_for_the_shell)
    for each in postgres.ERRORS:
        app.register_error_handler(each, _unavailable)


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
    if current := g.pop("session", None):
        current.close()


def _unavailable(error: Exception) -> Response:
    if not postgres.is_unavailable(error):
        raise error
    current_app.logger.warning("the database is unavailable: %s", waits.reason(error))
    return errors.answer(ServiceUnavailable(postgres.UNAVAILABLE, retry_after=postgres.RETRY_AFTER))
