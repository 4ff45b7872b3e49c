"""A service below a path of a shared site: `/billing/invoices` is its `/invoices`.

The prefix becomes WSGI's SCRIPT_NAME (PEP 3333), so routes are written without it, and every `url_for` includes it.
Health and metrics, which are requested from inside the network, exist only without the prefix; everything else exists
only below it.
"""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask, abort, redirect, request
from werkzeug.wrappers import Response

from chassis.observe.routes import is_internal
from chassis.settings import Settings


class Prefix:
    """WSGI middleware: moves the prefix from the path to SCRIPT_NAME."""

    def __init__(self, app: WSGIApplication, prefix: str) -> None:
        self.app, self.prefix = app, prefix

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == self.prefix or path.startswith(f"{self.prefix}/"):
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + self.prefix
            environ["PATH_INFO"] = path.removeprefix(self.prefix)
        return self.app(environ, start_response)


def init_app(app: Flask, settings: Settings) -> None:
    if not (prefix := settings.url_prefix):
        return

    def refuse_elsewhere() -> Response | None:
        below = request.script_root == prefix
        if not below and request.path == "/":
            return redirect(f"{prefix}/", 308)  # only the port was typed, in development
        return None if below != is_internal(request.path) else abort(404)

    app.before_request(refuse_elsewhere)
    app.wsgi_app = Prefix(app.wsgi_app, prefix)  # type: ignore[method-assign] # as Flask documents it
