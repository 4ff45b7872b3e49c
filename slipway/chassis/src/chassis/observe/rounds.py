"""What a worker's rounds are like, on a `/metrics` of its own: only a worker imports it, and has these series."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter, time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from chassis.observe import metrics

BUCKETS = (0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600)

registry = CollectorRegistry()
ROUNDS = Counter("worker_rounds", "Rounds of work that ended.", registry=registry)
SECONDS = Histogram("worker_round_seconds", "Seconds that a round took.", buckets=BUCKETS, registry=registry)
DUE = Gauge("worker_due_timestamp_seconds", "When the worker must have shown that it lives.", registry=registry)

log = logging.getLogger("metrics")


def serve(port: int) -> None:
    """Answers on that port, in a thread. Where it is taken, the worker works without."""
    registry.register(metrics.Now())
    try:
        start_http_server(port, registry=registry)
    except OSError as error:
        log.warning("no metrics of this worker, on port %d: %s", port, error.strerror)


def due(seconds: float) -> None:
    """Within how many seconds the worker has to show that it lives."""
    DUE.set(time() + seconds)


@contextmanager
def measured() -> Iterator[None]:
    begun = perf_counter()
    yield
    SECONDS.observe(perf_counter() - begun)
    ROUNDS.inc()
