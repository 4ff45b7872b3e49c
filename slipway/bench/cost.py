"""What the chassis costs a request: CPU in µs of an app with all of it and of one without, measured in turns.

Runs in the service's image; prints a JSON object with the differences and Flask's own share. It uses no socket:
it calls the app, then the hooks and the log as gunicorn calls them.
"""

import json
import os
import sys
from datetime import timedelta
from statistics import median
from time import process_time
from types import SimpleNamespace

from flask import Flask
from gunicorn.config import Config

from chassis.observe import logs
from chassis.server import access_log, gunicorn, watchdog
from chassis.settings import Settings
from chassis.web.setup import setup

TURNS, REQUESTS = 20, 150
ENVIRON = {
    "REQUEST_METHOD": "GET", "PATH_INFO": "/hello", "RAW_URI": "/hello", "QUERY_STRING": "", "SERVER_NAME": "bench",
    "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "10.0.0.1", "HTTP_HOST": "bench",
    "HTTP_USER_AGENT": "Mozilla/5.0", "HTTP_X_FORWARDED_FOR": "203.0.113.7", "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_HOST": "bench", "HTTP_X_REQUEST_ID": "0123456789abcdef", "wsgi.url_scheme": "http",
    "wsgi.input": None, "wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}  # fmt: skip


def main(rounds: int) -> None:
    out = os.dup(1)
    read_our_log()
    settings = Settings.load()
    logs.configure(settings.log_level, settings.log_format)
    logs.gather()
    gunicorn.share_metrics()
    with_it, without = chassis_request(settings), bare_request()
    spent(with_it), spent(without)
    pairs = [in_turns(with_it, without) for _ in range(rounds)]
    costs = {"chassis_cost": [ours - bare for ours, bare in pairs], "cost_of_flask": [bare for _, bare in pairs]}
    os.write(out, json.dumps(costs).encode())


def read_our_log() -> None:
    """Makes stdout a pipe that another process reads, as a container engine does."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(writer)
        while os.read(reader, 65536):
            pass
        os._exit(0)
    os.dup2(writer, 1)
    os.close(writer)


def in_turns(*requests) -> list[float]:
    """The median time of each, over turns so short that other load on the machine affects all alike, or only a few."""
    turns = [[spent(each) for each in requests] for _ in range(TURNS)]
    return [median(taken) for taken in zip(*turns, strict=True)]


def spent(request) -> float:
    begun = process_time()
    for _ in range(REQUESTS):
        request()
    return (process_time() - begun) / REQUESTS * 1e6


def chassis_request(settings: Settings):
    app = with_route(Flask("bench"))
    setup(app, settings)
    config = Config()
    config.set("accesslog", "-")
    log, watched = access_log.Logger(config), watchdog.Watchdog(settings.request_timeout)
    request = SimpleNamespace(method="GET", uri="/hello", headers=[])
    response = SimpleNamespace(status_code=200, sent=5, status="200 OK", headers=[])

    def run() -> None:
        environ = dict(ENVIRON)
        watched.enter(request)
        consume(app.wsgi_app, environ)
        log.access(response, request, environ, timedelta(milliseconds=1))
        watched.leave()

    return run


def bare_request():
    app = with_route(Flask("bare"))
    return lambda: consume(app.wsgi_app, dict(ENVIRON))


def with_route(app: Flask) -> Flask:
    app.add_url_rule("/hello", "hello", lambda: "hello")
    return app


def consume(app, environ: dict) -> None:
    for _ in app(environ, lambda status, headers, exc_info=None: None):
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]))
