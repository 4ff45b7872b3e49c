"""One id per request: taken from `X-Request-ID` if it is well formed, else made here.

It appears in every log line of the request, in the response's headers and in a comment on its SQL.
"""

import re
import secrets
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import TYPE_CHECKING
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from chassis.observe import logs

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from flask import Flask

HEADER = "X-Request-ID"
# Long enough for a UUID or a trace id, and nothing that could break a log line or a SQL comment.
WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}").fullmatch


class RequestID:
    """WSGI middleware: outermost, so that an answer made by any layer carries the id."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        current = chosen(environ.get("HTTP_X_REQUEST_ID", ""))
        environ["chassis.request_id"] = current
        environ["chassis.started"] = perf_counter()
        # Not reset afterwards: a streamed body is still this request's, and the next one sets it.
        logs.request_id.set(current)

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: "OptExcInfo | None" = None
        ) -> Callable[[bytes], object]:
            return start_response(status, [*headers, (HEADER, current)], exc_info)

        return self.app(environ, start)


def chosen(given: str) -> str:
    return given if WELL_FORMED(given) else secrets.token_hex(16)


def init_app(app: "Flask") -> None:
    app.wsgi_app = RequestID(app.wsgi_app)  # type: ignore[method-assign] # as Flask documents it


def current() -> str | None:
    """The id of the request that this thread is serving."""
    return logs.request_id.get()
