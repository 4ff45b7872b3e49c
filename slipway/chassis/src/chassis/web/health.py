"""`/health/live`, `/health/ready` and `/version`, the checks run by py-healthcheck.

Live means that this process answers; it never asks the database, which a restart would not fix. Ready means that it
should get traffic: the database answers and has this release's revision or a later one, and the process was not asked
to stop.
"""

import json
import logging
from time import monotonic
from typing import Any

from flask import Blueprint, Flask, current_app, jsonify, request
from healthcheck import HealthCheck
from werkzeug.wrappers import Response

from chassis.observe import routes, version
from chassis.server import drain
from chassis.settings import Settings
from chassis.web.checks import Bounded, Check
from chassis.web.traffic import Traffic

HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store"}

blueprint = Blueprint("health", __name__)


def init_app(app: Flask, settings: Settings) -> None:
    """Adds the routes. The database has already added its own check."""
    add_checks(app, {})
    database = app.extensions.get("database")
    state: dict[str, Any] = {"started": monotonic()}
    app.extensions["health"] = state
    state["traffic"] = Traffic(
        settings,
        database and database.absence,
        checks=lambda: app.extensions["checks"].checkers,
        log=lambda failing: _log_change(app.logger, state, 503 if failing else 200, json.dumps(failing)),
    )
    app.register_blueprint(blueprint)


def add_checks(app: Flask, checks: dict[str, Check]) -> None:
    """Further conditions for readiness: each returns (passed, a word for the operator).

    The first is always `draining`: it asks nothing, and those behind a database that says nothing get no time.
    """
    if "checks" not in app.extensions:
        app.extensions["checks"] = HealthCheck(
            success_headers=HEADERS,
            failed_status=503,
            failed_headers=HEADERS,
            success_ttl=0,
            failed_ttl=0,
        )
        checks = {"draining": _not_draining, **checks}
    for name, check in checks.items():
        app.extensions["checks"].add_check(Bounded(check, name))


@blueprint.get(routes.LIVE)
def live() -> Response:
    return _no_store(jsonify(status="alive"))


@blueprint.get(routes.READY)
def ready() -> Response:
    """What fails, and where, for clients in the network; a word for the public. For `?for=traffic`, see traffic.py."""
    state = current_app.extensions["health"]
    public = "X-Forwarded-For" in request.headers  # the proxy always sends it, except in its own probes
    if request.args.get("for") == "traffic" and not public:
        if not (wanted := state["traffic"].wanted()):
            drain.tell()
        return current_app.response_class(_word(wanted), 200 if wanted else 503, HEADERS)
    body, status, headers = current_app.extensions["checks"].run()
    _log_change(current_app.logger, state, status, body)
    return current_app.response_class(_word(status == 200) if public else body, status, headers)


def _word(passed: bool) -> str:
    return json.dumps({"status": "success" if passed else "failure"})  # py-healthcheck's words


@blueprint.get(routes.VERSION)
def show_version() -> Response:
    return _no_store(jsonify(version.current()))


def _not_draining() -> tuple[bool, str]:
    return (False, "draining") if drain.started() else (True, "serving")


def _log_change(log: logging.Logger, state: dict[str, Any], status: int, body: str) -> None:
    """Logs one line when readiness changes, instead of one per probe."""
    if state.get("status", 200) != status:
        level = log.info if status == 200 else log.warning
        level("ready" if status == 200 else "not ready", extra={"health": body})
    state["status"] = status


def _no_store(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
