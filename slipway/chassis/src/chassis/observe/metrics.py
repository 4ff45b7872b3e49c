"""Prometheus text: what the service did and is busy with, summed over all workers.

docs/metrics.md has the questions that it answers. Each label has few values: each is a time series for ever.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from time import monotonic, sleep, time

from prometheus_client import REGISTRY, Counter, Histogram, exposition, multiprocess
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.mmap_dict import MmapedDict

from chassis.observe import gauges, version

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
WAITS = (0.001, 0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10)

STARTED = time()  # of this module: each start of the server or worker has its own, all processes of it the same
LOCK_WAIT = 1.0  # seconds: the process that waits may be the one that starts the workers
METHODS = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}

REQUESTS = Counter("http_requests", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram("http_request_seconds", "Seconds to answer.", ["route", "class"], buckets=BUCKETS)
THREAD_WAITS = Histogram("http_thread_wait_seconds", "Seconds that a request waited for a thread.", buckets=WAITS)
CONNECTION_WAITS = Histogram(
    "database_connection_wait_seconds", "Seconds that a request waited for a connection to Postgres.", buckets=WAITS
)
DATABASE_ERRORS = Counter("database_errors", "Errors of Postgres, and of reaching it.", ["kind"])
WORKER_ENDS = Counter("worker_ends", "Worker processes that ended, and not because the server was told to stop.")


def text() -> bytes:
    """The sum of all workers' counters if server/gunicorn.py has made a directory for them; else this process's."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return exposition.generate_latest(REGISTRY) + exposition.generate_latest(Now())
    with _files(fcntl.LOCK_SH) as folder:
        return exposition.generate_latest(_Counters(folder)) + exposition.generate_latest(Now())


class _Counters:
    """All processes' files, as a registry. A file that a process has just opened is empty for a moment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def collect(self) -> Iterable[Metric]:
        files = [str(path) for path in self.folder.glob("*.db") if path.stat().st_size]
        merged: Iterable[Metric] = multiprocess.MultiProcessCollector.merge(files)
        return merged


class Now:
    """What is at the moment, as a registry."""

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily("build", "What runs here.", version.current())
        yield GaugeMetricFamily("started_timestamp_seconds", "When it started.", STARTED)
        for each in gauges.read():
            yield GaugeMetricFamily(*each)


def keep_counts() -> None:
    """Adds the counts of processes that have ended to one file of each kind, and deletes their files of 64 kB each.

    Only for the server's first process: if it is killed between the two steps, all processes end with it.
    """
    with _files(fcntl.LOCK_EX) as folder:
        for path in folder.glob("*_*.db"):
            kind, _, pid = path.stem.rpartition("_")
            if not pid.isdecimal() or gauges.lives(int(pid)):
                continue
            if path.stat().st_size and not kind.startswith("gauge"):  # a gauge says what is, not what was
                sums = MmapedDict(str(folder / f"{kind}_ended.db"))
                for key, value, *_ in list(MmapedDict.read_all_values_from_file(str(path))):
                    sums.write_value(key, sums.read_value(key)[0] + value, 0.0)
                sums.close()
            path.unlink()


@contextmanager
def _files(lock: int) -> Iterator[Path]:
    """Locks and yields the counters' directory, so that no count is moved while another process reads."""
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    with (folder / "lock").open("a") as file:
        until = monotonic() + LOCK_WAIT
        while True:
            try:
                fcntl.flock(file, lock | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if monotonic() > until:
                    raise
                sleep(0.01)
        yield folder


def count(method: str, route: str, status: int, seconds: float) -> None:
    """Counts one request under its route in the app.

    A client may make up a method, and another service whose answer the app passes on may make up a status: both are
    limited to a set, since each label value is a time series for ever.
    """
    requests, took = _series(
        method if method in METHODS else "other", route, status if 100 <= status < 600 else "other"
    )
    requests.inc()
    took.observe(seconds)


@cache  # looking a series up takes longer than counting in it
def _series(method: str, route: str, status: int | str) -> tuple[Counter, Histogram]:
    of_class = f"{status // 100}xx" if isinstance(status, int) else status
    return REQUESTS.labels(method, route, status), SECONDS.labels(route, of_class)
