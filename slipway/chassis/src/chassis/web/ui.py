"""The app of a service that is a UI alone: its page, its static files, and what every service has."""

import os

from flask import Flask, render_template

from chassis.settings import Settings, of_service
from chassis.web import publish
from chassis.web.setup import setup


def create_app(settings: Settings | None = None) -> Flask:
    """`templates/index.html` of the package SERVICE, at every path without a file: the UI reads the path itself."""
    service = os.environ["SERVICE"]
    app = Flask(service, root_path=str(publish.package(service)))
    setup(app, settings or of_service().load())
    app.add_url_rule("/", "page", page, defaults={"path": ""})
    app.add_url_rule("/<path:path>", "page", page)
    return app


def page(path: str) -> str:
    return render_template("index.html")
