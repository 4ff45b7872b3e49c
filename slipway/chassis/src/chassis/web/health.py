"""`/health/live`, `/health/ready` and `/version`, the checks run by py-healthcheck.

Live means that this process answers; it never asks the database, since a restart would not mend
that. Ready means that it should get traffic: the database answers and has this release's revision
or a later one, and nobody asked it to stop.
"""

import json
import logging
import os
from pathlib import Path
from time import monotonic, perf_counter

from flask import Blueprint, Flask, current_app, jsonify, request
from healthcheck import HealthCheck
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from werkzeug.wrappers import Response

from chassis import bounded, db, drain, postgres, recent, traffic
from chassis.absence import Absence
from chassis.bounded import Bounded, Check
from chassis.schema import Schema
from chassis.settings import Settings

HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store"}

blueprint = Blueprint("health", __name__)


def init_app(app: Flask, settings: Settings) -> None:
    """Adds the routes, with the checks `draining` and `database`."""
    # Beside src/, as in every service; one that keeps no migrations needs no revision.
    schema = Schema(Path(app.root_path).parents[1] / "migrations")
    state = app.extensions["health"] = {"started": monotonic(), "check": None, "schema": schema}
    absence = app.extensions.get("absence")
    state["traffic"] = traffic.Traffic(
        settings,
        absence,
        checks=lambda: state["check"].checkers,
        log=lambda failing: _log_change(app.logger, state, 503 if failing else 200, json.dumps(failing)),
    )
    database = {"database": _database_check(settings, schema, absence)} if settings.uses_database else {}
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
    """What fails, and where, for who asks from inside; the public learns a word. For `?for=traffic`, see traffic.py."""
    state = current_app.extensions["health"]
    public = "X-Forwarded-For" in request.headers  # the proxy always says it, but when it asks for itself
    if request.args.get("for") == "traffic" and not public:
        wanted = state["traffic"].wanted()
        return current_app.response_class(_word(wanted), 200 if wanted else 503, HEADERS)
    body, status, headers = state["check"].run()
    _log_change(current_app.logger, state, status, body)
    return current_app.response_class(_word(status == 200) if public else body, status, headers)


def _word(passed: bool) -> str:
    return json.dumps({"status": "success" if passed else "failure"})  # py-healthcheck's words


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


def _database_check(settings: Settings, schema: Schema, absence: Absence) -> Check:
    # Its own connection: a pool that requests keep busy says nothing about the database.
    engine = db.create_engine(settings, pool_size=1)
    statement = text("SELECT version_num FROM alembic_version" if schema.known else "SELECT 1")

    def check() -> tuple[bool, str]:
        begun = monotonic()
        try:
            with postgres.within(bounded.TIMEOUT), engine.connect() as connection:
                start = perf_counter()
                rows = connection.execute(statement).scalars().all()
                recent.count_ping(perf_counter() - start)
        except ProgrammingError:  # no such table: not migrated at all
            rows = []
        except SQLAlchemyError as error:
            recent.count_lost_ping()
            absence.note(begun, silent=not postgres.has_answered(error))
            raise
        absence.end()
        if schema.behind(set(rows)):
            return False, "migrations are pending"
        return True, "answers"

    return check


def _log_change(log: logging.Logger, state: dict, status: int, body: str) -> None:
    """One line when readiness turns, instead of one a probe."""
    if state.get("status", 200) != status:
        level = log.info if status == 200 else log.warning
        level("ready" if status == 200 else "not ready", extra={"health": body})
    state["status"] = status


def _no_store(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
