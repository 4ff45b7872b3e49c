"""A service that test_serving.py starts as production does."""

import os
import threading
from collections.abc import Iterator

from flask import Flask, request

from chassis.observe import request_id
from chassis.web import health, metrics
from served.settings import Settings

LARGE = int(os.environ["LARGE"])  # bytes
LIMIT = float(os.environ["REQUEST_TIMEOUT"])  # seconds


def create_app() -> Flask:
    app = Flask(__name__)
    for view in (pid, large, streamed, slow, hangs, hangs_later):
        app.add_url_rule(f"/{view.__name__}", view_func=view)
    app.add_url_rule("/upload", view_func=upload, methods=["POST"])
    metrics.init_app(app)
    health.init_app(app, Settings.load())
    request_id.init_app(app)
    return app


def pid() -> str:
    return str(os.getpid())


def large() -> bytes:
    return b"x" * LARGE


def streamed() -> Iterator[bytes]:
    return (b"x" * 2**16 for _ in range(LARGE // 2**16))


def slow() -> str:
    threading.Event().wait(LIMIT / 2)
    return "done"


def upload() -> str:
    return str(len(request.get_data()))


def hangs() -> str:
    threading.Event().wait()


def hangs_later() -> Iterator[bytes]:
    yield b"x" * 2**20
    hangs()
