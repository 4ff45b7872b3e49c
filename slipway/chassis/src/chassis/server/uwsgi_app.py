"""The service's app, as uWSGI imports it before it forks: with what gunicorn does for an app and uWSGI does not."""

import gc
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import uwsgi
from gunicorn.util import import_app

from chassis import settings
from chassis.observe import gauges, logs, telemetry
from chassis.server import access_log, control, drain
from chassis.server.gunicorn import raise_oom_score
from chassis.server.watchdog import ClientsTurn, Watchdog

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

MAX_VARIABLES = 128  # a hundred headers, as with gunicorn, and what is no header
UNREAD = 2**20  # bytes of a body that are read although the app did not want them
access = logging.getLogger("uwsgi.access")


class Exchange:
    """A request and its response: watched, logged, and framed as HTTP/1.1 has it."""

    def __init__(self, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self.environ, self.start_response = environ, start_response
        self.method, self.uri = environ["REQUEST_METHOD"], environ["REQUEST_URI"]
        self.began = perf_counter()
        self.status, self.sent = 500, 0
        self.has_body, self.chunked = True, False
        self.body: Body | None = None
        if "HTTP_TRANSFER_ENCODING" in environ or environ.get("CONTENT_LENGTH"):
            self.body = Body(environ)
            environ["wsgi.input"] = io.BufferedReader(self.body)
            environ["wsgi.input_terminated"] = "HTTP_TRANSFER_ENCODING" in environ
        environ.pop("wsgi.file_wrapper", None)  # it would send a file past send()

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: "OptExcInfo | None" = None
    ) -> Callable[[bytes], object]:
        self.status = int(status[:3])
        self.has_body = self.method != "HEAD" and self.status >= 200 and self.status not in (204, 304)
        sized = any(name.lower() == "content-length" for name, _ in headers)
        self.chunked = self.has_body and not sized and self.environ["SERVER_PROTOCOL"] == "HTTP/1.1"
        if self.chunked:
            headers = [*headers, ("Transfer-Encoding", "chunked")]  # else a part looks like the whole
        write = self.start_response(status, headers, exc_info)
        return lambda part: write(self.framed(part))

    def send(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        turn = ClientsTurn(threading.get_ident())  # uWSGI sends each part before it asks for the next
        try:
            for part in parts:
                if part and self.has_body:
                    with turn:
                        yield self.framed(part)
            if self.chunked:
                with turn:
                    yield b"0\r\n\r\n"
        finally:
            if close := getattr(parts, "close", None):
                close()
            self.end()

    def framed(self, part: bytes) -> bytes:
        self.sent += len(part)
        return b"%X\r\n%b\r\n" % (len(part), part) if self.chunked else part

    def end(self) -> None:
        watchdog.leave()
        if self.body and not self.body.is_expected:
            # A connection that is closed with unread data takes the response back.
            with suppress(OSError, ValueError):  # the client has gone, the app has closed it
                while self.body.position < UNREAD and self.body.read(2**16):
                    pass
        access_log.write(access, self.environ, self.uri, self.status, self.sent, perf_counter() - self.began)


class Body(io.RawIOBase):
    """A request's body. uWSGI leaves `Expect` and chunks to the app."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        self.source, self.position, self.rest = environ["wsgi.input"], 0, b""
        self.chunked = "HTTP_TRANSFER_ENCODING" in environ
        self.is_expected = environ.get("HTTP_EXPECT", "").lower() == "100-continue"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with ClientsTurn(threading.get_ident()):
            part = self.next_part(len(buffer))
        buffer[: len(part)] = part
        self.position += len(part)
        return len(part)

    def next_part(self, size: int) -> bytes:
        if self.is_expected:
            os.write(uwsgi.connection_fd(), b"HTTP/1.1 100 Continue\r\n\r\n")
            self.is_expected = False
        if not self.chunked:
            whole: bytes = self.source.read(size)
            return whole
        part: bytes = self.rest or uwsgi.chunked_read()
        self.rest = part[size:]
        return part[:size]


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if "REQUEST_METHOD" not in environ or "SERVER_PROTOCOL" not in environ:  # uWSGI passes on what is not HTTP
        return refuse("400 Bad Request", start_response)
    if len(environ) > MAX_VARIABLES:
        return refuse("431 Request Header Fields Too Large", start_response)
    exchange = Exchange(environ, start_response)
    watchdog.enter(exchange)
    drain.request_came(exchange.uri)  # every connection is closed here
    try:
        return exchange.send(app(environ, exchange.start))
    except BaseException:
        exchange.end()
        raise


def refuse(status: str, start_response: StartResponse) -> Iterable[bytes]:
    start_response(status, [("Content-Length", "0")])
    return ()


def start_worker() -> None:
    gc.freeze()
    logs.gather()
    raise_oom_score()
    gauges.sources |= {"http_requests_in_flight": lambda: len(Watchdog.running), "http_threads": threads}
    telemetry.start(loaded)
    control.listen("worker", busy=True)
    watchdog.start(stop_accepting=lambda: os.kill(os.getpid(), signal.SIGHUP))


def threads() -> int:
    return int(uwsgi.opt.get("threads", b"1"))


def load(name: str) -> WSGIApplication:
    try:
        return cast(WSGIApplication, import_app(name))
    except Exception:  # uWSGI would print the traceback line by line
        logging.getLogger("uwsgi.error").critical("%s can't be loaded", name, exc_info=True)
        os._exit(1)


loaded = settings.of_service().load()
watchdog = Watchdog(loaded.request_timeout)
app = load(sys.argv[1])  # --pyargv
uwsgi.post_fork_hook, uwsgi.atexit = start_worker, telemetry.stop
gc.freeze()  # see ready() in gunicorn.py
