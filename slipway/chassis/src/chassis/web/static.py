"""Static files for a year: each URL carries a digest of the contents, `/static/style.1a2b3c4d.css`.

The app serves them itself, the service's own and the chassis's below `/static/chassis`; behind a proxy, publish.py lays
them where it serves from. A digest that is not this release's answers with this release's file, which
must not be kept under that name: only a digest that matches is cached.
"""

from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, current_app, g, request
from werkzeug.security import safe_join
from werkzeug.wrappers import Response

from chassis.web.publish import HASHED, OWN, digest, hashed

YEAR = 365 * 24 * 3600  # seconds
ENDPOINTS = ("static", "chassis.static")


def init_app(app: Flask) -> None:
    # Made for each app: Flask lets a blueprint be registered once it knows where its files lie.
    app.register_blueprint(
        Blueprint(
            "chassis", __name__, template_folder="templates", static_folder=OWN, static_url_path="/static/chassis"
        )
    )
    app.url_defaults(_add_digest)
    app.url_value_preprocessor(_take_digest)
    app.after_request(_cache)


def _folder(endpoint: str) -> Path:
    return OWN if endpoint == "chassis.static" else Path(current_app.static_folder or "")


def _digest(endpoint: str, filename: str) -> str | None:
    inside = safe_join(str(_folder(endpoint)), filename)
    return digest(Path(inside)) if inside else None


def _add_digest(endpoint: str, values: dict[str, Any]) -> None:
    if endpoint in ENDPOINTS:
        values["filename"] = hashed(_folder(endpoint), values["filename"])


def _take_digest(endpoint: str | None, values: dict[str, Any] | None) -> None:
    if endpoint in ENDPOINTS and values and (parts := HASHED(values["filename"])):
        filename = parts[1] + (parts[3] or "")
        if _digest(endpoint, filename):
            values["filename"], g.asked_for = filename, parts[2]


def _cache(response: Response) -> Response:
    if request.endpoint in ENDPOINTS and response.status_code in (200, 206, 304):
        filename = (request.view_args or {})["filename"]
        if HASHED(filename) or g.get("asked_for") == _digest(request.endpoint, filename):
            response.headers["Cache-Control"] = f"public, max-age={YEAR}, immutable"
        else:
            response.headers["Cache-Control"] = "no-cache"
    return response
