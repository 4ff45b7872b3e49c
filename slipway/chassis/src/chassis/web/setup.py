"""`setup(app, settings)`: everything that a Flask app has besides its own pages, in the right order."""

from flask import Flask

from chassis.observe import request_id
from chassis.settings import Settings
from chassis.web import api_docs, assets, errors, health, metrics, prefix, security, status


def setup(app: Flask, settings: Settings) -> None:
    """Call it before the service's own modules, so that what they register is guarded and counted like all else."""
    app.debug = settings.development
    security.init_app(app, settings)
    errors.init_app(app)
    if settings.uses_database:
        from chassis.web import database  # and with it SQLAlchemy and psycopg2

        database.init_app(app, settings)
    health.init_app(app, settings)
    metrics.init_app(app)
    assets.init_app(app)
    status.init_app(app, settings)
    api_docs.init_app(app)
    prefix.init_app(app, settings)
    if settings.traced:
        from chassis.observe import traces

        traces.init_app(app)
    request_id.init_app(app)  # the last to wrap is the outermost: every answer carries the id
