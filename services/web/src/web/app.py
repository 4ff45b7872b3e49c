"""The web service: a table of contents."""

from flask import Flask

import web.notes  # sample
from chassis.web.setup import setup
from web import csrf, home
from web.settings import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """The app, set up from the environment unless settings are given. Raises SettingsError."""
    settings = settings or Settings.load()
    app = Flask(__name__)
    setup(app, settings)

    csrf.init_app(app)
    home.init_app(app, settings)
    web.notes.init_app(app, settings)  # sample
    return app
