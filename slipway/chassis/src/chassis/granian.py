"""Granian in gunicorn's place (`SERVER=granian`): the same app behind the same drain, watchdog and log.

gunicorn becomes it when it reads its configuration, see server.configure. HTTP is spoken by Rust threads there.
What it lacks is that a worker with a hung request stops accepting before it ends.
"""

import gc
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from time import perf_counter
from types import SimpleNamespace
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from gunicorn import util
from gunicorn.config import Config

from chassis import drain, logs, postgres, server
from chassis.entrypoint import CONFIG, fail, settings_class
from chassis.settings import Settings, SettingsError

# Only levels change: its lines go through our handler, as gunicorn's do.
LOGGING = {"incremental": True, "formatters": {}, "handlers": {}, "loggers": {"granian.access": {"level": "ERROR"}}}


def main(target: str) -> None:
    try:
        settings = settings_class().load()
    except SettingsError as error:
        logs.configure_early()
        fail(CONFIG, str(error))
    logs.configure(settings.log_level, settings.log_format)
    server.share_metrics()
    multiprocessing.set_start_method("fork")  # workers share the drain, and what is loaded
    warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
    app = Requests(util.import_app(target), settings)
    gc.freeze()
    Server(target, settings).serve(target_loader=lambda: app.in_worker(), wrap_loader=False)


class Server(Granian):
    """Granian with chassis's settings; SIGTERM and SIGINT drain, a second one stops at once."""

    def __init__(self, target: str, settings: Settings) -> None:
        super().__init__(
            target,
            address=settings.bind_address,
            port=settings.port,
            interface=Interfaces.WSGI,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=75_000, pipeline_flush=False),
            workers=settings.web_concurrency or server.workers(),
            blocking_threads=settings.web_threads,
            respawn_failed_workers=True,
            workers_kill_timeout=settings.graceful_timeout,
            log_dictconfig=LOGGING,
        )
        self.delay = settings.drain_delay

    def _respawn_workers(self, *arguments: Any, **options: Any) -> None:
        server.keep_counts()  # of those that have ended
        super()._respawn_workers(*arguments, **options)

    def signal_handler_interrupt(self, *_: Any) -> None:
        if drain.started():
            for worker in self.wrks:
                worker.kill()
            os._exit(0)
        drain.start()
        signal.signal(signal.SIGALRM, lambda *_: super(Server, self).signal_handler_interrupt())
        signal.setitimer(signal.ITIMER_REAL, self.delay or 1e-6)


class Requests:
    """WSGI middleware: what gunicorn's hooks do around each request."""

    def __init__(self, app: Callable, settings: Settings) -> None:
        self.app = app
        self.watchdog = server.Watchdog(settings.request_timeout)
        config = Config()
        config.set("accesslog", "-")
        self.log = server.Logger(config)

    def in_worker(self) -> Callable:
        """The app, in a worker's process: its watchdog runs there."""
        server.start_worker(SimpleNamespace(alive=True), self.watchdog)
        postgres.watch_waits()
        return self

    def __call__(self, environ: dict, start_response: Callable) -> "list[bytes] | Answer":
        query = environ["QUERY_STRING"]
        environ["RAW_URI"] = environ["PATH_INFO"] + (f"?{query}" if query else "")
        environ["wsgi.input"] = Body(environ["wsgi.input"])
        request = SimpleNamespace(method=environ["REQUEST_METHOD"], uri=environ["RAW_URI"])
        answer = Answer(self, request, environ)

        def start(status: str, headers: list, exc_info: object = None) -> Callable:
            answer.status = int(status[:3])
            answer.streams = not any(name.lower() == "content-length" for name, _ in headers)
            return start_response(status, headers, exc_info)

        self.watchdog.enter(None, request)
        try:
            answer.body = self.app(environ, start)
            if answer.streams:
                return answer
            whole = list(answer)  # granian is quickest with a list
        except BaseException:
            answer.status = 500
            answer.close()
            raise
        answer.close()
        return whole


class Body:
    """A request's, which its client may send slowly."""

    def __init__(self, body: Any) -> None:
        self.body = body

    def __getattr__(self, name: str) -> Callable:
        return server.clients_turn(getattr(self.body, name))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")


class Answer:
    """A response's body, which ends the request where it ends: it is logged then."""

    def __init__(self, requests: Requests, request: Any, environ: dict) -> None:
        self.requests, self.request, self.environ = requests, request, environ
        self.begun, self.thread = perf_counter(), threading.get_ident()
        self.status, self.sent, self.streams = 500, 0, False
        self.body: Iterable[bytes] = ()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.body:
            self.sent += len(chunk)
            with server.ClientsTurn(self.thread):
                yield chunk

    def close(self) -> None:
        if close := getattr(self.body, "close", None):
            close()
        self.requests.watchdog.running.pop(self.thread, None)
        took = timedelta(seconds=perf_counter() - self.begun)
        self.requests.log.access(self, self.request, self.environ, took)


if __name__ == "__main__":
    main(sys.argv[1])
