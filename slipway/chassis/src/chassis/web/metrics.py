"""`/metrics`, and what it counts: each request of a Flask app. The proxy answers 404 for it."""

from functools import cache
from time import perf_counter

from flask import Flask, Request, request
from prometheus_client import exposition
from werkzeug.wrappers import Response

from chassis.observe import metrics, routes, timeseries
from chassis.web.assets import ENDPOINTS as STATIC


def init_app(app: Flask) -> None:
    # Flask checks at each request whether each hook and view is a coroutine function, which never changes.
    app.ensure_sync = cache(app.ensure_sync)  # type: ignore[method-assign]
    app.after_request(count)
    app.add_url_rule(routes.METRICS, "metrics", show)


def show() -> Response:
    return Response(metrics.text(), content_type=exposition.CONTENT_TYPE_LATEST)


def count(response: Response) -> Response:
    current: Request = request._get_current_object()  # type: ignore[attr-defined] # it is a LocalProxy
    took = (now := perf_counter()) - current.environ.get("chassis.started", now)
    route = current.url_rule.rule if current.url_rule else "none"
    metrics.count(current.method, route, response.status_code, took)
    if route not in routes.POLLED and current.endpoint not in STATIC:
        timeseries.count_request(took, failed=response.status_code >= 500)
    return response
