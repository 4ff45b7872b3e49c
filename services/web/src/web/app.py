"""The web service: a table of contents."""

from flask import Flask

import web.notes  # sample
from chassis import db, errors, health, metrics, prefix, request_id, security, static, status
from web import apidocs, csrf, home, openapi
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
    status.init_app(app, settings)
    csrf.init_app(app)
    static.init_app(app)
    openapi.init_app(app)
    apidocs.init_app(app)
    home.init_app(app, settings)
    web.notes.init_app(app, settings)  # sample
    prefix.init_app(app, settings)
    request_id.init_app(app)  # the last to wrap is the outermost: every answer carries the id
    return app
