"""`/metrics`, Prometheus text: requests and their seconds by route. The proxy answers 404 for it."""

import os
from time import perf_counter

from flask import Flask, g, request
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    exposition,
    multiprocess,
)
from werkzeug.wrappers import Response

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

REQUESTS = Counter("http_requests", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram("http_request_seconds", "Seconds to answer.", ["route"], buckets=BUCKETS)


def init_app(app: Flask) -> None:
    app.before_request(_start)
    app.after_request(_count)
    app.add_url_rule("/metrics", view_func=expose)


def expose() -> Response:
    """All workers' counters added up, where server.py made them a place; else this process's."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
    return Response(exposition.generate_latest(registry), content_type=exposition.CONTENT_TYPE_LATEST)


def _start() -> None:
    g.started = perf_counter()


def _count(response: Response) -> Response:
    # By rule, never by path: each label value is a time series for ever.
    route = request.url_rule.rule if request.url_rule else "none"
    REQUESTS.labels(request.method, route, response.status_code).inc()
    SECONDS.labels(route).observe(perf_counter() - g.get("started", perf_counter()))
    return response
