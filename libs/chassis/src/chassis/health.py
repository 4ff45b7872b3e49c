"""`/health/live`, `/health/ready` and `/version`, the checks run by py-healthcheck.

Live means that this process answers; it never asks the database, since a restart would not mend
that. Ready means that it should get traffic: the database answers and has this release's revision
or a later one, and nobody asked it to stop.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import monotonic, perf_counter

from flask import Blueprint, Flask, current_app, jsonify
from healthcheck import HealthCheck
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from werkzeug.wrappers import Response

from chassis import db, drain, postgres, recent
from chassis.schema import Schema
from chassis.settings import Settings

CHECK_TIMEOUT = 2.0  # seconds; ready must tell the truth within three
HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store"}

Check = Callable[[], tuple[bool, str]]
blueprint = Blueprint("health", __name__)


class Bounded:
    """A check that answers within CHECK_TIMEOUT and runs once at a time, whoever asks.

    py-healthcheck's own timeout is SIGALRM, which only a main thread may use, and it returns the
    text of exceptions, which names hosts and users: here it is the class's name.
    """

    def __init__(self, check: Check, name: str) -> None:
        self.check, self.__name__ = check, name
        self.pool: ThreadPoolExecutor | None = None
        self.running: Future | None = None
        self.lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)

    def __call__(self) -> tuple[bool, str]:
        with self.lock:
            if self.running is None or self.running.done():
                self.pool = self.pool or ThreadPoolExecutor(1, thread_name_prefix=self.__name__)
                self.running = self.pool.submit(self.check)
            running = self.running
        try:
            return running.result(CHECK_TIMEOUT)
        except Exception as error:
            return False, type(error).__name__

    def _forget(self) -> None:
        """A fork takes no threads along, and maybe a lock that nobody will release."""
        self.pool, self.running, self.lock = None, None, threading.Lock()


def init_app(app: Flask, settings: Settings) -> None:
    """Adds the routes, with the checks `draining` and `database`."""
    # Beside src/, as in every service; one that keeps no migrations needs no revision.
    schema = Schema(Path(app.root_path).parents[1] / "migrations")
    app.extensions["health"] = {"started": monotonic(), "check": None, "schema": schema}
    database = {"database": _database_check(settings, schema)} if settings.uses_database else {}
    add_checks(app, {"draining": _not_draining, **database})
    app.register_blueprint(blueprint)


def add_checks(app: Flask, checks: dict[str, Check]) -> None:
    """Further conditions for readiness: each returns (passed, a word for the operator)."""
    known = app.extensions["health"]["check"]
    if known is None:
        known = app.extensions["health"]["check"] = HealthCheck(
            success_headers=HEADERS,
            failed_status=503,
            failed_headers=HEADERS,
            success_ttl=0,
            failed_ttl=0,
        )
    for name, check in checks.items():
        known.add_check(Bounded(check, name))


@blueprint.get("/health/live")
def live() -> Response:
    return _no_store(jsonify(status="alive"))


@blueprint.get("/health/ready")
def ready() -> Response:
    state = current_app.extensions["health"]
    body, status, headers = state["check"].run()
    _log_change(state, status, body)
    return current_app.response_class(body, status, headers)


@blueprint.get("/version")
def version() -> Response:
    return _no_store(jsonify(release()))


def release() -> dict[str, str]:
    """What runs here: name, version, git revision, build time (RFC 3339); set by the image build."""
    return {
        "name": os.environ.get("SERVICE", "web"),
        "version": os.environ.get("VERSION") or "unversioned",
        "revision": os.environ.get("REVISION") or "unknown",
        "built": os.environ.get("BUILT") or "unknown",
    }


def _not_draining() -> tuple[bool, str]:
    return (False, "draining") if drain.started() else (True, "serving")


def _database_check(settings: Settings, schema: Schema) -> Check:
    # Its own connection: a pool that requests keep busy says nothing about the database.
    engine = db.create_engine(settings, pool_size=1)
    statement = text("SELECT version_num FROM alembic_version" if schema.known else "SELECT 1")

    def check() -> tuple[bool, str]:
        try:
            with postgres.within(CHECK_TIMEOUT), engine.connect() as connection:
                start = perf_counter()
                rows = connection.execute(statement).scalars().all()
                recent.count_ping(perf_counter() - start)
        except ProgrammingError:  # no such table: not migrated at all
            rows = []
        except SQLAlchemyError:
            recent.count_lost_ping()
            raise
        if schema.behind(set(rows)):
            return False, "migrations are pending"
        return True, "answers"

    return check


def _log_change(state: dict, status: int, body: str) -> None:
    """One line when readiness turns, instead of one a probe."""
    if state.get("status", 200) != status:
        level = current_app.logger.info if status == 200 else current_app.logger.warning
        level("ready" if status == 200 else "not ready", extra={"health": body})
    state["status"] = status


def _no_store(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
