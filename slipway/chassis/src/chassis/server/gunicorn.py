"""gunicorn, configured by one call from a service's `gunicorn.conf.py`, and what it lacks.

`configure(globals(), "web.app:create_app()")` sets the options below and adds a drain (readiness
turns 503 while the listener stays open), a watchdog for hung requests, and access logs as JSON.
"""

import gc
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.workers import base

from chassis.observe import logs, timeseries  # noqa: F401 - timeseries has its memory before the fork
from chassis.observe.exits import settings_or_exit
from chassis.server import drain, shm, sizing
from chassis.server.access_log import Logger
from chassis.server.watchdog import Watchdog
from chassis.server.worker import Worker
from chassis.settings import Settings


def configure(namespace: dict[str, Any], wsgi_app: str, asgi: bool = False) -> None:
    """Writes gunicorn's settings (docs.gunicorn.org/en/stable/settings.html) into a config file's globals.

    With `asgi`, the app is an ASGI app, such as one that chassis.web.asgi has wrapped.
    """
    namespace.update(options(settings_or_exit(), wsgi_app))
    if asgi:
        namespace.update(ASGI)


# Requests share a thread there: chassis.web.asgi ends one that hangs.
ASGI = {
    "worker_class": "chassis.server.asgi_worker.Worker",
    "threads": 1,
    "pre_request": lambda worker, request: None,
    "post_request": lambda worker, request: None,
}


def options(settings: Settings, wsgi_app: str) -> dict[str, Any]:
    watchdog = Watchdog(settings.request_timeout)
    share_metrics()
    return {
        "wsgi_app": wsgi_app,
        "bind": f"{settings.bind_address}:{settings.port}",
        "worker_class": Worker,
        "workers": settings.web_concurrency or sizing.workers(),
        "threads": settings.web_threads,
        "preload_app": True,  # one import, shared memory; an engine lets go of its connections at the fork
        "graceful_timeout": settings.graceful_timeout,
        "keepalive": 75,  # over the proxy's, so that the proxy is the one to close an idle connection
        "limit_request_field_size": 20480,  # over the proxy's for all of them, whose answer is a page
        "timeout": 30,  # a worker whose main loop stalls; a stuck request is the watchdog's
        "worker_tmp_dir": shm.FOLDER,  # a heartbeat on a disk can block
        "control_socket_disable": True,  # it wants a writable root file system
        "accesslog": "-",
        "loglevel": settings.log_level,
        "logger_class": Logger,
        "forwarded_allow_ips": "",  # X-Forwarded-* are the app's business, by TRUSTED_PROXIES
        "proc_name": os.environ.get("SERVICE", "gunicorn"),
        "when_ready": lambda server: ready(server, settings),
        "post_worker_init": lambda worker: start_worker(worker, watchdog, settings),
        "worker_exit": lambda server, worker: logging.shutdown(),
        "pre_request": watchdog.enter,
        "post_request": watchdog.leave,
        "child_exit": lambda server, worker: keep_counts(),
        "on_exit": lambda server: shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True),
    }


def ready(server: Arbiter, settings: Settings) -> None:
    # What is loaded stays: the collector need not touch it, so that forks share its memory, and
    # the end of a process takes 15 ms instead of 150.
    gc.freeze()
    drain_on_signal(server, settings.drain_delay)


def start_worker(worker: base.Worker, watchdog: Watchdog, settings: Settings) -> None:
    gc.freeze()
    logs.gather()
    raise_oom_score()
    watchdog.start(worker)
    if settings.uses_database and isinstance(worker, Worker):
        from chassis.db import waits

        waits.announce_to(worker.tpool.hand_over)


def raise_oom_score(score: Path = Path("/proc/self/oom_score_adj")) -> None:
    """Where memory runs out, the kernel ends a worker, which is replaced, and never the master with all of them.

    It ends the largest, and while that dies, often the next: by half of the limit, a worker counts for more
    (proc_pid_oom_score_adj(5)).
    """
    with suppress(OSError):  # a sandbox without it
        score.write_text(str(min(1000, int(score.read_text()) + 500)))


def drain_on_signal(server: Arbiter, delay: float) -> None:
    """SIGTERM or SIGINT: readiness turns 503, and `delay` seconds later gunicorn's graceful stop.

    gunicorn stops accepting the moment it handles SIGTERM, and no hook fires before that, while a
    proxy still sends requests until its next probe. So the signal is kept back for the delay, with
    the listener open. A second signal stops at once, whatever is in flight.
    """
    graceful, quick = handler_of(signal.SIGTERM), handler_of(signal.SIGQUIT)

    def first(signum: int, frame: FrameType | None) -> None:
        drain.start()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, second)
        if delay:
            signal.setitimer(signal.ITIMER_REAL, delay)
        else:
            stop(signum, frame)

    def stop(signum: int, frame: FrameType | None) -> None:
        graceful(signal.SIGTERM, frame)

    def second(signum: int, frame: FrameType | None) -> None:
        server.kill_workers(signal.SIGKILL)
        quick(signal.SIGQUIT, frame)

    signal.signal(signal.SIGALRM, stop)
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, first)


def handler_of(number: signal.Signals) -> Callable[[int, FrameType | None], object]:
    """gunicorn's own, which is set by the time it is ready."""
    handler = signal.getsignal(number)
    if not callable(handler):
        raise RuntimeError(f"gunicorn does not handle {number.name}")
    return handler


def share_metrics() -> None:
    """A directory in memory where every worker keeps its counters (prometheus_client's multiprocess mode)."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="metrics-", dir=shm.FOLDER)


def keep_counts() -> None:
    """What fails here ends no server: the next worker's end tries again."""
    from chassis.observe import metrics  # which makes prometheus_client look for the directory

    try:
        metrics.keep_counts()
    except Exception:
        logging.getLogger("metrics").exception("the counters of workers that ended are still files of their own")
