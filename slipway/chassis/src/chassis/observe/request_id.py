"""One id a request: taken from `X-Request-ID` where it is well formed, else made here.

It stands in every log line of the request, in the response's header, and in the comment on its SQL.
"""

import re
import secrets
from collections.abc import Callable, Iterable
from time import perf_counter

from chassis.observe import logs

HEADER = "X-Request-ID"
# Long enough for a UUID or a trace id, and nothing that could break a log line or a SQL comment.
WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}").fullmatch


class RequestID:
    """WSGI middleware: outermost, so that an answer made by any layer carries the id."""

    def __init__(self, app: Callable) -> None:
        self.app = app

    def __call__(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        current = chosen(environ.get("HTTP_X_REQUEST_ID", ""))
        environ["chassis.request_id"] = current
        environ["chassis.started"] = perf_counter()
        # Not reset afterwards: a streamed body is still this request's, and the next one sets it.
        logs.request_id.set(current)

        def start(status: str, headers: list, exc_info: object = None) -> Callable:
            return start_response(status, [*headers, (HEADER, current)], exc_info)

        return self.app(environ, start)


def chosen(given: str) -> str:
    return given if WELL_FORMED(given) else secrets.token_hex(16)


def init_app(app) -> None:
    app.wsgi_app = RequestID(app.wsgi_app)


def current() -> str | None:
    """The id of the request that this thread is serving."""
    return logs.request_id.get()
