"""`setup(app, settings)`: all that a Flask app has besides its own pages, in one order."""

from flask import Flask

from chassis.observe import request_id
from chassis.settings import Settings
from chassis.web import api_docs, errors, health, metrics, openapi, prefix, security, static, status


def setup(app: Flask, settings: Settings) -> None:
    """Comes before the service's own modules, so that what these register is guarded and counted as all else is."""
    app.debug = settings.development
    security.init_app(app, settings)
    errors.init_app(app)
    if settings.uses_database:
        from chassis.web import database  # and with it SQLAlchemy and psycopg2

        database.init_app(app, settings)
    health.init_app(app, settings)
    metrics.init_app(app)
    static.init_app(app)
    status.init_app(app, settings)
    openapi.init_app(app)
    api_docs.init_app(app)
    prefix.init_app(app, settings)
    request_id.init_app(app)  # the last to wrap is the outermost: every answer carries the id
