"""What the chassis gives a Flask app of another repository: health, metrics, request ids, the prefix.

The base image serves it so. The app knows nothing of it: its sessions, headers, errors and database stay its own.
"""

import os
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask
from flask.cli import NoAppException, ScriptInfo

from chassis.observe import request_id, routes
from chassis.observe.exits import CONFIG, fail
from chassis.settings import of_service
from chassis.web import health, metrics, prefix, security


class Operational:
    """WSGI middleware: an app of its own answers the operational routes, which no hook or route of `app` can change."""

    def __init__(self, app: WSGIApplication, own: WSGIApplication) -> None:
        self.app, self.own = app, own

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        chosen = self.own if routes.is_internal(path) or path == routes.VERSION else self.app
        return chosen(environ, start_response)


def create_app() -> Flask:
    """The app that the command `flask` finds: by FLASK_APP, else in `wsgi.py` or `app.py` of the working directory.

    Raises SettingsError; exits with CONFIG and one line if there is no app.
    """
    settings = of_service().load()
    try:
        app = ScriptInfo(os.environ.get("FLASK_APP") or None).load_app()
    except NoAppException as error:
        fail(CONFIG, error.format_message())
    own = Flask("chassis", static_folder=None)
    health.init_app(own, settings)
    metrics.init_app(own)
    app.after_request(metrics.count)
    security.trust_proxies(app, settings)
    prefix.init_app(app, settings)
    app.wsgi_app = Operational(app.wsgi_app, own.wsgi_app)  # type: ignore[method-assign] # as Flask documents it
    if settings.traced:
        from chassis.observe import traces

        traces.init_app(app)
    request_id.init_app(app)
    return app
