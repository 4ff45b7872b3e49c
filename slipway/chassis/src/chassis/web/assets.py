"""Static files, cached for a year: each URL carries a digest of the contents, `/static/style.1a2b3c4d.css`.

The app serves the service's own files, and the chassis's below `/static/chassis`; behind a proxy, publish.py places
them where the proxy serves them from. A URL with another release's digest gets this release's file, which must not be
cached under that name: only a matching digest is cached.
"""

from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, current_app, g, request
from werkzeug.security import safe_join
from werkzeug.wrappers import Response

from chassis.web.bundle import BUNDLED
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
        if BUNDLED(filename) or g.get("asked_for") == _digest(request.endpoint, filename):
            response.headers["Cache-Control"] = f"public, max-age={YEAR}, immutable"
        else:
            response.headers["Cache-Control"] = "no-cache"
    return response
