"""`/health/live`, `/health/ready` and `/version` of a Flask app.

Live means that this process answers; it never asks the database, which a restart would not fix. Ready means that it
should get traffic: the database answers and has this release's revision or a later one, and the process was not asked
to stop.
"""

from collections.abc import Mapping

from flask import Blueprint, Flask, current_app, jsonify, request
from werkzeug.wrappers import Response

from chassis.observe import routes, version
from chassis.settings import Settings
from chassis.web.checks import Check
from chassis.web.readiness import HEADERS, Readiness

blueprint = Blueprint("health", __name__)


def init_app(app: Flask, settings: Settings) -> None:
    """Adds the routes. The database has already added its own check."""
    add_checks(app, {})
    database = app.extensions.get("database")
    app.extensions["health"].watch(settings, database and database.absence)
    app.register_blueprint(blueprint)


def add_checks(app: Flask, checks: Mapping[str, Check]) -> None:
    """Further conditions for readiness: each returns (passed, a word for the operator)."""
    if "health" not in app.extensions:
        app.extensions["health"] = Readiness(app.logger)
    app.extensions["health"].add(checks)


@blueprint.get(routes.LIVE)
def live() -> Response:
    return _no_store(jsonify(status="alive"))


@blueprint.get(routes.READY)
def ready() -> Response:
    """For `?for=traffic`, see traffic.py."""
    health: Readiness = current_app.extensions["health"]
    public = "X-Forwarded-For" in request.headers  # the proxy always sends it, except in its own probes
    body, status = health.answer(public, request.args.get("for") == "traffic")
    return current_app.response_class(body, status, HEADERS)


@blueprint.get(routes.VERSION)
def show_version() -> Response:
    return _no_store(jsonify(version.current()))


def _no_store(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
