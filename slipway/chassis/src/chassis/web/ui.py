"""The app of a service that is a UI alone: its page, its static files, and what every service has."""

import os
from importlib.util import find_spec
from pathlib import Path

from flask import Flask, render_template

from chassis import errors, health, metrics, prefix, request_id, security, static
from chassis.entrypoint import settings_class
from chassis.settings import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """`templates/index.html` of the package SERVICE, at every path that no file has: the UI reads the path itself."""
    settings = settings or settings_class().load()
    package = Path(find_spec(os.environ["SERVICE"]).origin).parent
    app = Flask(os.environ["SERVICE"], root_path=str(package))
    app.debug = settings.development
    security.init_app(app, settings)
    errors.init_app(app)
    health.init_app(app, settings)
    metrics.init_app(app)
    static.init_app(app)
    app.add_url_rule("/", "page", page, defaults={"path": ""})
    app.add_url_rule("/<path:path>", "page", page)
    prefix.init_app(app, settings)
    request_id.init_app(app)
    return app


def page(path: str) -> str:
    return render_template("index.html")
