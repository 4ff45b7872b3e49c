"""The layer around the app in development: the browser follows, errors become a page, each request is recorded.

It is the outermost WSGI middleware, added from outside: no line of the app knows about it.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from http.client import INTERNAL_SERVER_ERROR
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.wsgi import ClosingIterator

from devserver import database, inspector, live, page, recording, sql
from devserver.debugger import PATH, Debugger
from devserver.inspector import Inspector

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

    from devserver.supervisor import Supervisor

PREFIX = "/_dev/"
ERROR = "devserver.error"  # in the environ: the unexpected error
CONTEXTS = "werkzeug.debug.preserve_context"  # in the environ: Flask's contexts, which the debugger enters again


def listen(root: Path, flask: bool = True) -> None:
    """Listens to what requests do, to a Flask app's errors and to the access log; once per process."""
    recording.listen(root)
    if flask:  # an ASGI app has no need to wait for its import
        note_exceptions()
    logging.getLogger("gunicorn.access").addFilter(add_sql)


class Layer:
    def __init__(self, app: WSGIApplication, code: int, supervisor: "Supervisor", say: Callable[..., None]) -> None:
        self.app, self.code = app, code
        self.root, self.state, self.channel = supervisor.root, supervisor.state, supervisor.theirs
        self.debugger = Debugger()
        self.migrations = database.Watch(app, supervisor.service / "migrations", say)
        self.dependencies = supervisor.notices.get("dependencies", [])
        self.inspector = Inspector(app, supervisor, self.debugger)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "").startswith(PREFIX):
            return self.own(environ, start_response)
        stamp = self.state.read()._replace(code=self.code)  # before the app runs: later changes are news to the page
        answer = Answer()
        contexts: list[AbstractContextManager[None]] = []
        environ[CONTEXTS] = contexts.append
        request = recording.Request(self.root, environ["REQUEST_METHOD"], url(environ))
        request.error = self.app.error if isinstance(self.app, page.Broken) else None
        try:
            body = answer.of(self.app, environ)
        except Exception as error:  # raised outside Flask's error handling
            body = answer.failed(error, environ)
        spent = (perf_counter() - request.begun) * 1000
        if answer.code == INTERNAL_SERVER_ERROR and (raised := environ.get(ERROR)):
            request.error = raised
            links = self.links(raised, environ, answer.request_id, contexts)
            if page.wanted(environ):
                close(body)
                body = answer.replace(*self.explain(raised, environ, answer.request_id, request.statements, links))
        if answer.is_page(environ):
            parts = b"".join(body)
            close(body)
            body = answer.fill(live.inject(parts, stamp, environ["REQUEST_METHOD"]))
        answer.headers.append(("Server-Timing", timing(spent, request.statements)))
        start_response(answer.status, answer.headers)
        if recording.is_left_out(request.path, answer.code):
            return body
        return ClosingIterator(body, partial(request.finish, self.channel, answer.code, answer.request_id))

    def links(
        self,
        error: BaseException,
        environ: WSGIEnvironment,
        request_id: str,
        contexts: list[AbstractContextManager[None]],
    ) -> dict[str, str]:
        """Where a client that may use them finds the error in the debugger, and the request in the inspector."""
        if not request_id or not self.debugger.allows(environ):
            return {}
        self.debugger.keep(request_id, error, contexts)
        return {"debugger": f"{PATH}?id={request_id}", "inspector": f"{inspector.PATH}#{request_id}"}

    def explain(
        self,
        error: BaseException,
        environ: WSGIEnvironment,
        request_id: str,
        statements: list[sql.Statement],
        links: dict[str, str],
    ) -> tuple[str, bytes]:
        hints = [*self.migrations.notices, *self.dependencies]
        return page.of_request(self.root, error, environ, request_id, statements, hints=hints, **links)

    def own(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers what a page asks of the development server itself."""
        path = environ["PATH_INFO"].removeprefix(PREFIX)
        if path == "events" and "gunicorn.socket" in environ:
            live.hand_over(environ, self.channel, {})
        if path == "live.js":
            return live.script(environ, start_response)
        if environ["PATH_INFO"] == PATH:
            return self.debugger(environ, start_response)
        if environ["PATH_INFO"].startswith(inspector.PATH):
            return self.inspector(environ, start_response)
        start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return []


class Answer:
    """A WSGI answer on its way out."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []

    def of(self, app: WSGIApplication, environ: WSGIEnvironment) -> Iterable[bytes]:
        body = app(environ, self.start)
        if self.status:
            return body
        rest = iter(body)  # a generator: its first part brings the status
        first = next(rest, b"")
        return Joined(first, rest, body)

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: "OptExcInfo | None" = None
    ) -> Callable[[bytes], object]:
        self.status, self.headers = status, list(headers)
        return lambda data: None

    @property
    def code(self) -> int:
        return int(self.status.split(" ", 1)[0])

    @property
    def request_id(self) -> str:
        return self.header("x-request-id")

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")

    def without(self, *names: str) -> list[tuple[str, str]]:
        return [(key, value) for key, value in self.headers if key.lower() not in names]

    def is_page(self, environ: WSGIEnvironment) -> bool:
        """Whether it is a whole HTML page for a window: not a stream, a download or a fragment for a script."""
        return (
            environ["REQUEST_METHOD"] != "HEAD"
            and self.header("content-type").startswith("text/html")
            and bool(self.header("content-length"))
            and not self.header("content-encoding")
            and not self.header("content-disposition").startswith("attachment")
            and environ.get("HTTP_SEC_FETCH_DEST", "document") in ("document", "iframe", "frame")
        )

    def fill(self, body: bytes) -> list[bytes]:
        """Sets the body of a page, which is never cached: a page from a cache would be older than its stamp."""
        self.headers = self.without("content-length", "etag", "last-modified", "cache-control", "expires")
        self.headers += [("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        return [body]

    def replace(self, kind: str, body: bytes) -> list[bytes]:
        """Replaces it with the error page: of the app's headers only the request id remains."""
        self.headers = [("X-Request-ID", self.request_id)] if self.request_id else []
        self.headers += [("Content-Type", kind), ("Cache-Control", "no-store"), ("Content-Length", str(len(body)))]
        return [body]

    def failed(self, error: Exception, environ: WSGIEnvironment) -> list[bytes]:
        logging.getLogger("dev").error("raised outside the app's views", exc_info=error)
        environ[ERROR] = error
        self.start("500 Internal Server Error", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return []


class Joined:
    """An answer's body whose first part has already been read."""

    def __init__(self, first: bytes, rest: Iterable[bytes], body: Any) -> None:
        self.first, self.rest, self.body = first, rest, body

    def __iter__(self) -> Iterator[bytes]:
        yield self.first
        yield from self.rest

    def close(self) -> None:
        close(self.body)


def close(body: Any) -> None:
    if hasattr(body, "close"):
        body.close()


def url(environ: WSGIEnvironment) -> str:
    """As it was asked for."""
    return str(environ.get("RAW_URI") or environ.get("PATH_INFO", ""))


def timing(spent: float, statements: list[sql.Statement]) -> str:
    """`Server-Timing`, which browsers show beside the request."""
    database = sum(each.milliseconds for each in statements)
    return f'app;dur={spent:.1f}, db;dur={database:.1f};desc="{len(statements)} statements"'


def add_sql(record: logging.LogRecord) -> bool:
    """Adds the count to the access log's line, which the same thread writes when the request is over. There is no line
    for what pages ask of the development server itself."""
    if getattr(record, "path", "").startswith(PREFIX):
        return False
    if statements := sql.current():
        record.sql = sql.summary(statements)
    return True


def note_exceptions() -> None:
    """Flask answers an unexpected error itself; its signal says which error it was."""
    from flask import got_request_exception, request

    def note(sender: object, exception: BaseException, **extra: object) -> None:
        request.environ[ERROR] = exception
        if "form" in vars(request):  # parsed already: reading it here could wait for the client
            request.environ[page.FORM] = request.form.to_dict(flat=False)

    got_request_exception.connect(note, weak=False)
