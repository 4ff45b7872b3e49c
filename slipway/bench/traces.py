"""What traces cost: CPU in µs a request and a statement, the sending included.

`.venv/bin/python -m slipway.bench.traces [ROUNDS]` calls an app as cost.py does, in turns with the same app without
traces. The fastest of each turns counts, since what else runs on the machine only adds. `request` is what it takes
without traces, the others what they add: with the sending, by real OTLP to another process before a turn ends, and
`_made` without it.
"""

import gc
import json
import os
import sys
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import process_time

import sqlalchemy
from flask import Flask

from chassis.db import timing
from chassis.observe import logs, request_id, telemetry, traces
from chassis.settings import Settings
from slipway.bench.cost import ENVIRON, REQUESTS, TURNS, with_route

SAMPLED = ENVIRON | {"HTTP_TRACEPARENT": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
UNSAMPLED = ENVIRON | {"HTTP_TRACEPARENT": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}
QUERIES = 10  # statements of a request


class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main(rounds: int) -> None:
    logs.configure("ERROR")
    os.environ["OTEL_BSP_MAX_QUEUE_SIZE"] = "10000"  # of a turn, which never pauses, all is sent
    sink = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    if (child := os.fork()) == 0:
        with suppress(KeyboardInterrupt):
            sink.serve_forever()
        os._exit(0)
    try:
        endpoint = f"http://127.0.0.1:{sink.server_address[1]}"
        telemetry.start(Settings.load({"APP_ENV": "test", "SECRET_KEY": "k", "DATABASE_URL": "postgresql://x:x@h/x",
                                       "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}))  # fmt: skip
        exporter = traces._processor.span_exporter
        send, exporter.export = exporter.export, lambda spans: None
        made = measured(rounds)
        exporter.export = send
        sent = measured(rounds)
        named = {f"{name}_made": value for name, value in made.items() if name in ("sampled", "query")}
        print(json.dumps(sent | named, indent=2))
        telemetry.stop()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def measured(rounds: int) -> dict[str, float]:
    plain, told = app(0), app(0)
    asking, asking_told = app(QUERIES), app(QUERIES, traces.executed)
    for each in (told, asking_told):
        traces.init_app(each)
    for each in (plain, told, asking, asking_told):
        request_id.init_app(each)
    requests = {
        "without": partial(run, plain, ENVIRON),
        "sampled": partial(run, told, SAMPLED),
        "unsampled": partial(run, told, UNSAMPLED),
        "queries without": partial(run, asking, ENVIRON),
        "queries sampled": partial(run, asking_told, SAMPLED),
    }
    gc.freeze()  # as the server does
    turns = [{name: spent(each) for name, each in requests.items()} for _ in range((rounds + 1) * TURNS)][TURNS:]
    taken = {name: min(turn[name] for turn in turns) for name in requests}
    request = taken["sampled"] - taken["without"]
    queries = taken["queries sampled"] - taken["queries without"]
    return {
        "request": round(taken["without"], 1),
        "sampled": round(request, 1),
        "query": round((queries - request) / QUERIES, 1),
        "unsampled": round(taken["unsampled"] - taken["without"], 1),
        "off": round(spent(off), 2),
    }


def spent(request) -> float:
    begun = process_time()
    for _ in range(REQUESTS):
        request()
    traces.provider.force_flush()
    return (process_time() - begun) / REQUESTS * 1e6


def off() -> None:
    """What the log's line and a statement do then."""
    logs.trace_id.set(None)
    for _ in range(2):
        assert logs.trace_id.get() is None


def app(queries: int, listener: object = None) -> Flask:
    made, engine = with_route(Flask("bench")), sqlalchemy.create_engine("sqlite://")
    if listener:
        timing.listen(engine, listener)
    if queries:
        connection = engine.connect()
        statement = sqlalchemy.text("SELECT :number")

        def ask() -> str:
            for number in range(queries):
                connection.execute(statement, {"number": number})
            return "hello"

        made.view_functions["hello"] = ask
    return made


def run(app: Flask, environ: dict) -> None:
    body = app.wsgi_app(dict(environ), lambda status, headers, exc_info=None: None)
    for _ in body:
        pass
    body.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 9)
