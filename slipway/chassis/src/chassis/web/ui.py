"""The app of a service that is a UI alone: its page, its files, and what every service has.

The UI is what `npm run build` makes of the project in the service's ui/ (docs/frontend.md), or without a project the
package's static files. Behind a proxy, publish.py places the files that a bundler has named by their contents where the
proxy serves them from.
"""

import os
from pathlib import Path
from typing import Any

from flask import Flask, current_app, request
from werkzeug.security import safe_join

from chassis.settings import Settings, of_service
from chassis.web import bundle, publish
from chassis.web.bundle import PAGE
from chassis.web.setup import setup


def create_app(settings: Settings | None = None) -> Flask:
    """`index.html` at every path without a file: the UI reads the path itself.

    Raises BundleError in production if there is no page, or if it was built for another path: no such release serves.
    """
    service, settings = os.environ["SERVICE"], settings or of_service().load()
    package = publish.package(service)
    folder = bundle.built(package) if bundle.has_project(package) else package / "static"
    app = Flask(service, root_path=str(package), static_folder=folder, static_url_path="")
    setup(app, settings)
    app.add_url_rule("/", "static", defaults={"filename": PAGE})

    def choose_page(endpoint: str | None, values: dict[str, Any] | None) -> None:
        if endpoint == "static" and values and is_page(values["filename"]):
            values["filename"] = PAGE
            if not settings.production:
                bundle.check(folder, settings.url_prefix)

    app.url_value_preprocessor(choose_page)
    if settings.production:
        bundle.check(folder, settings.url_prefix)
    return app


def is_page(filename: str) -> bool:
    """Whether a browser opens a page there, and no file. A script or a style that is missing is a 404."""
    inside = safe_join(current_app.static_folder or "", filename)
    if filename == PAGE or not inside or Path(inside).is_file():
        return filename == PAGE
    return "." not in filename.rpartition("/")[2] or "text/html" in request.headers.get("Accept", "")
