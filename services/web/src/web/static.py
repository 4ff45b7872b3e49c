"""Static files for a year: their URLs carry a digest of the contents, `/static/style.css?v=1a2b3c4d`.

While a release rolls out, a page of the new one may fetch its stylesheet from a replica of the old
one. That answer is the wrong file for its URL, so it must not be kept: only a digest that matches
is cached.
"""

import hashlib
from functools import lru_cache
from pathlib import Path

from flask import Flask, current_app, request
from werkzeug.wrappers import Response

YEAR = 365 * 24 * 3600  # seconds


def init_app(app: Flask) -> None:
    app.url_defaults(_add_digest)
    app.after_request(_cache)


def digest(filename: str) -> str | None:
    """Eight hexadecimal digits of the file's contents; None where there is no such file."""
    path = Path(current_app.static_folder, filename)
    try:
        return _digest(path, path.stat().st_mtime_ns)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1024)
def _digest(path: Path, modified: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def _add_digest(endpoint: str, values: dict) -> None:
    if endpoint == "static" and (version := digest(values["filename"])):
        values["v"] = version


def _cache(response: Response) -> Response:
    if request.endpoint == "static" and response.status_code in (200, 206, 304):
        filename = request.view_args["filename"]
        if request.args.get("v") == digest(filename):
            response.headers["Cache-Control"] = f"public, max-age={YEAR}, immutable"
        else:
            response.headers["Cache-Control"] = "no-cache"
    return response
