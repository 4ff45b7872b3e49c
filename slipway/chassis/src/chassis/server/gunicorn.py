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
from gunicorn.http.message import Request
from gunicorn.workers import base

from chassis.observe import gauges, logs, telemetry, timeseries  # noqa: F401 - timeseries must have its memory before the fork
from chassis.observe.exits import settings_or_exit
from chassis.server import control, drain, shm, sizing
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


# Requests share a thread there; chassis.web.asgi ends a request that hangs.
ASGI = {
    "worker_class": "chassis.server.asgi_worker.Worker",
    "threads": 1,
    "pre_request": lambda worker, request: close_while_draining(request),
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
        "keepalive": 75,  # longer than the proxy's, so that the proxy closes an idle connection first
        "limit_request_field_size": 20480,  # over the proxy's limit for all fields together, whose answer is a page
        "timeout": 30,  # for a worker whose main loop stalls; the watchdog handles a stuck request
        "worker_tmp_dir": shm.FOLDER,  # a heartbeat on a disk can block
        "control_socket_disable": True,  # it needs a writable root file system
        "accesslog": "-",
        "loglevel": settings.log_level,
        "logger_class": Logger,
        "forwarded_allow_ips": "",  # the app handles X-Forwarded-*, by TRUSTED_PROXIES
        "proc_name": os.environ.get("SERVICE") or "gunicorn",
        "when_ready": lambda server: ready(server, settings),
        "post_worker_init": lambda worker: start_worker(worker, watchdog, settings),
        "worker_exit": lambda server, worker: stop_worker(),
        "pre_request": lambda worker, request: begin(request, watchdog),
        "post_request": lambda worker, request, environ, response: watchdog.leave(),
        "child_exit": lambda server, worker: keep_counts(ended=1),
        "on_exit": lambda server: shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True),
    }


def ready(server: Arbiter, settings: Settings) -> None:
    # What is loaded stays loaded: the collector need not touch it, so forks share its memory, and a process ends in 15
    # ms instead of 150.
    gc.freeze()
    drain_on_signal(server, settings.drain_delay)
    control.listen("server")


def begin(request: Request, watchdog: Watchdog) -> None:
    watchdog.enter(request)
    close_while_draining(request)


def close_while_draining(request: Request) -> None:
    if drain.request_came(request.uri or ""):
        request.must_close = True


def start_worker(worker: base.Worker, watchdog: Watchdog, settings: Settings) -> None:
    gc.freeze()
    logs.gather()
    raise_oom_score()
    if isinstance(worker, Worker):
        gauges.sources |= {
            "http_requests_in_flight": lambda: len(Watchdog.running),
            "http_threads": lambda: worker.cfg.threads,
        }
    telemetry.start(settings)
    control.listen("worker", getattr(worker, "loop", None), busy=True)
    watchdog.start(stop_accepting=lambda: setattr(worker, "alive", False))
    if settings.uses_database and isinstance(worker, Worker):
        from chassis.db import waits

        waits.announce_to(worker.tpool.hand_over)


def stop_worker() -> None:
    telemetry.stop()
    logging.shutdown()


def raise_oom_score(score: Path = Path("/proc/self/oom_score_adj")) -> None:
    """If memory runs out, makes the kernel kill a worker, which is replaced, and never the master with all of them.

    The kernel kills the largest process and, while that dies, often the next: this makes a worker count for half of the
    memory limit more (proc_pid_oom_score_adj(5)).
    """
    with suppress(OSError):  # a sandbox without it
        score.write_text(str(min(1000, int(score.read_text()) + 500)))


def drain_on_signal(server: Arbiter, delay: float) -> None:
    """gunicorn has no hook that fires before it stops accepting, so its handlers are replaced."""
    graceful, quick = handler_of(signal.SIGTERM), handler_of(signal.SIGQUIT)

    def stop_at_once() -> None:
        server.kill_workers(signal.SIGKILL)
        quick(signal.SIGQUIT, None)

    drain.on_signal(delay, lambda: graceful(signal.SIGTERM, None), stop_at_once)


def handler_of(number: signal.Signals) -> Callable[[int, FrameType | None], object]:
    """gunicorn's own handler, which is set by the time the server is ready."""
    handler = signal.getsignal(number)
    if not callable(handler):
        raise RuntimeError(f"gunicorn does not handle {number.name}")
    return handler


def share_metrics() -> None:
    """A directory in memory where every worker keeps its counters (prometheus_client's multiprocess mode)."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="metrics-", dir=shm.FOLDER)


def keep_counts(ended: int = 0) -> None:
    """A failure here does not end the server: it is tried again when the next worker ends."""
    from chassis.observe import metrics  # this import makes prometheus_client look for the directory

    try:
        if not drain.started():
            metrics.WORKER_ENDS.inc(ended)
        metrics.keep_counts()
    except Exception:
        logging.getLogger("metrics").exception("the counters of workers that ended could not be merged")
