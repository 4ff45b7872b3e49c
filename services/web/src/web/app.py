"""The web service: a table of contents."""

from flask import Flask

import web.notes
from chassis import db, errors, health, metrics, request_id, security, static
from web import csrf, home, openapi
from web.settings import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """The app, set up from the environment unless settings are given. Raises SettingsError."""
    settings = settings or Settings.load()
    app = Flask(__name__)
    app.debug = settings.development

    security.init_app(app, settings)
    errors.init_app(app)
    db.init_app(app, settings)
    health.init_app(app, settings)
    metrics.init_app(app)
    csrf.init_app(app)
    static.init_app(app)
    openapi.init_app(app)
    home.init_app(app, settings)
    web.notes.init_app(app, settings)
    request_id.init_app(app)  # the last to wrap is the outermost: every answer carries the id
    return app
