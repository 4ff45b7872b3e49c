"""`/metrics`, Prometheus text: requests and their seconds by route. The proxy answers 404 for it."""

import os
from functools import cache
from time import perf_counter

from flask import Flask, request
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    exposition,
    multiprocess,
)
from werkzeug.wrappers import Response

from chassis import recent

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

# No part of what people do, and so not of recent.py's figures.
PROBES = {"expose", "health.live", "health.ready", "static", "status.show"}
METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}

REQUESTS = Counter("http_requests", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram("http_request_seconds", "Seconds to answer.", ["route"], buckets=BUCKETS)


def init_app(app: Flask) -> None:
    # Flask asks at each request whether each hook and view is a coroutine function; none becomes one.
    app.ensure_sync = cache(app.ensure_sync)
    app.after_request(_count)
    app.add_url_rule("/metrics", view_func=expose)


def expose() -> Response:
    return Response(text(), content_type=exposition.CONTENT_TYPE_LATEST)


def text() -> bytes:
    """All workers' counters added up, where server.py made them a place; else this process's."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
    return exposition.generate_latest(registry)


def count(method: str, route: str, status: int, seconds: float) -> None:
    """One request, by a route of the app's.

    A client may make up a method, and what it asks another service through the app a status: both are taken from a
    set, since each value of a label is a time series for ever.
    """
    requests, took = _series(
        method if method in METHODS else "other", route, status if 100 <= status < 600 else "other"
    )
    requests.inc()
    took.observe(seconds)


def _count(response: Response) -> Response:
    current = request._get_current_object()
    took = (now := perf_counter()) - current.environ.get("chassis.started", now)
    count(current.method, current.url_rule.rule if current.url_rule else "none", response.status_code, took)
    if current.endpoint not in PROBES:
        recent.count_request(took, failed=response.status_code >= 500)
    return response


@cache  # looking a series up takes longer than counting in it
def _series(method: str, route: str, status: int | str) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, route, status), SECONDS.labels(route)
