"""gunicorn, configured by one call from a service's `gunicorn.conf.py`, and what it lacks.

`configure(globals(), "web.app:create_app()")` sets the options below and adds a drain (readiness
turns 503 while the listener stays open), a watchdog for hung requests, and access logs as JSON.
"""

import functools
import gc
import logging
import math
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any, ClassVar

from gunicorn import glogging
from gunicorn.http import wsgi
from gunicorn.workers.gthread import ThreadWorker

from chassis import drain, logs, postgres, recent, shm  # noqa: F401 - recent has its memory before the fork
from chassis.entrypoint import CONFIG, fail, settings_class
from chassis.pool import LeaderPool
from chassis.settings import Settings, SettingsError

MOST_WORKERS = 4
WORKER_MEMORY = 96 * 2**20  # bytes: a worker starts with 15 MB of its own, and its requests want room
# Asked every few seconds: logged only where they fail.
QUIET = re.compile(r"/(?:health/|(?:metrics|status)(?:\?|$))").match
LINGER = 1.0  # seconds, see linger()
COURTESY = 0.001  # seconds, see Worker.accept
HUNG_GRACE = 5.0  # seconds that a hung request's neighbours get to finish


def configure(namespace: dict[str, Any], wsgi_app: str, asgi: bool = False) -> None:
    """Writes gunicorn's settings (docs.gunicorn.org/en/stable/settings.html) into a config file's globals.

    With `asgi`, the app is an ASGI app, such as one that chassis.asgi has wrapped.
    """
    try:
        settings = settings_class().load()
    except SettingsError as error:
        logs.configure_early()
        fail(CONFIG, str(error))
    logs.configure(settings.log_level, settings.log_format)
    namespace.update(options(settings, wsgi_app))
    if asgi:
        namespace.update(ASGI)


# Requests share a thread there: chassis.asgi ends one that hangs.
ASGI = {
    "worker_class": "chassis.asgi_worker.Worker",
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
        "workers": settings.web_concurrency or workers(),
        "threads": settings.web_threads,
        "preload_app": True,  # one import, shared memory; db.py lets go of connections at the fork
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
        "proc_name": os.environ.get("SERVICE", "web"),
        "when_ready": lambda server: ready(server, settings),
        "post_worker_init": lambda worker: start_worker(worker, watchdog),
        "worker_exit": lambda server, worker: logging.shutdown(),
        "pre_request": watchdog.enter,
        "post_request": watchdog.leave,
        "child_exit": lambda server, worker: keep_counts(),
        "on_exit": lambda server: shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True),
    }


def workers() -> int:
    """One worker a CPU and WORKER_MEMORY that the container may use: two at the least, so that one can die."""
    return int(min(MOST_WORKERS, max(2, min(math.ceil(cpus()), memory() / WORKER_MEMORY))))


def memory(root: Path = Path("/sys/fs/cgroup")) -> float:
    """The bytes that the cgroup grants (cgroup v2 memory.max, v1 memory.limit_in_bytes); infinite without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            return float(int((root / name).read_text()))
    return math.inf


def cpus(root: Path = Path("/sys/fs/cgroup")) -> float:
    """The CPUs that the cgroup grants (cgroup v2 cpu.max, v1 cpu.cfs_*), or the machine's."""
    machine = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        limit = float("inf") if quota.strip() in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):
        return machine
    return min(machine, limit)


def ready(server: Any, settings: Settings) -> None:
    # What is loaded stays: the collector need not touch it, so that forks share its memory, and
    # the end of a process takes 15 ms instead of 150.
    gc.freeze()
    drain_on_signal(server, settings.drain_delay)


def start_worker(worker: Any, watchdog: "Watchdog") -> None:
    gc.freeze()
    logs.gather()
    be_the_one_to_go()
    watchdog.start(worker)


def be_the_one_to_go(score: Path = Path("/proc/self/oom_score_adj")) -> None:
    """Where memory runs out, the kernel ends a worker, which is replaced, and never the master with all of them.

    It ends the largest, and while that dies, often the next: by half of the limit, a worker counts for more
    (proc_pid_oom_score_adj(5)).
    """
    with suppress(OSError):  # a sandbox without it
        score.write_text(str(min(1000, int(score.read_text()) + 500)))


def drain_on_signal(server: Any, delay: float) -> None:
    """SIGTERM or SIGINT: readiness turns 503, and `delay` seconds later gunicorn's graceful stop.

    gunicorn stops accepting the moment it handles SIGTERM, and no hook fires before that, while a
    proxy still sends requests until its next probe. So the signal is kept back for the delay, with
    the listener open. A second signal stops at once, whatever is in flight.
    """
    graceful = signal.getsignal(signal.SIGTERM)
    quick = signal.getsignal(signal.SIGQUIT)

    def first(signum: int, frame: Any) -> None:
        drain.start()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, second)
        if delay:
            signal.setitimer(signal.ITIMER_REAL, delay)
        else:
            stop(signum, frame)

    def stop(signum: int, frame: Any) -> None:
        graceful(signal.SIGTERM, frame)

    def second(signum: int, frame: Any) -> None:
        server.kill_workers(signal.SIGKILL)
        quick(signal.SIGQUIT, frame)

    signal.signal(signal.SIGALRM, stop)
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, first)


class Worker(ThreadWorker):
    """gthread with threads of our own (pool.py), fewer system calls a request, and a short way to the end.

    At a stop gunicorn keeps idle connections for two more seconds, since a client may be sending a
    request. By the end of a drain the proxy has long been told to send them elsewhere.
    """

    def init_process(self) -> None:
        wsgi.Response = Response  # gunicorn has no option for it
        super().init_process()

    def get_thread_pool(self) -> LeaderPool:
        pool = LeaderPool(self.cfg.threads, self.handle, self.done)
        postgres.watch_waits(pool.hand_over)
        return pool

    def accept(self, listener: Any) -> None:
        """A worker that has connections leaves a new one to its siblings for a moment: a burst gathered in one."""
        if self.nr_conns:
            sleep(COURTESY)
        super().accept(listener)

    def enqueue_req(self, conn: Any) -> None:
        if not conn.initialized:
            conn.sock.__class__ = ClientSocket
        self.tpool.put(conn)

    def done(self, conn: Any, outcome: Any) -> None:
        self.method_queue.defer(self.finish_request, conn, outcome)

    def finish_request(self, conn: Any, fs: Any) -> None:
        super().finish_request(conn, fs)
        if not self.alive:
            self._cap_keepalive(monotonic() + linger())

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        self._cap_keepalive(monotonic() + linger())
        self.tpool.let_go()

    def _keepalive_after(self, conn: Any, keepalive: Any) -> bool:
        """Reads the rest of the body, for which gunicorn changes the socket's mode four times; most have none."""
        if keepalive and getattr(conn.parser.mesg.body.reader, "length", None) == 0:
            conn.parser.mesg = None  # nothing is left of it
            return True
        return super()._keepalive_after(conn, keepalive)


def linger() -> float:
    """Seconds that a kept-alive connection gets at the end for a request that is under way to it."""
    return LINGER if drain.seconds() < LINGER else 0.0


class Response(wsgi.Response):
    """Sends the headers with the first of the body: one system call and one packet instead of two."""

    held = b""  # headers that are not sent yet

    def send_headers(self) -> None:
        if not self.headers_sent:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            self.held = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def write(self, arg: bytes) -> None:
        super().write(arg)
        self.flush()  # where there was no body to send

    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        held, self.held = self.held, b""
        self.sock.sendall(held + data)

    def flush(self) -> None:
        if self.held:
            held, self.held = self.held, b""
            self.sock.sendall(held)

    def sendfile(self, respiter: Any) -> bool:
        self.send_headers()
        self.flush()
        return super().sendfile(respiter)

    def close(self) -> None:
        self.send_headers()
        self.flush()
        super().close()


class Watchdog:
    """Ends a worker one of whose requests hangs, with that request's stack in the log.

    gunicorn's `timeout` watches the worker's main loop only: under gthread a stuck request holds
    its thread for ever. The worker stops accepting, its other requests get HUNG_GRACE seconds, and
    gunicorn starts another in its place.

    What a request waits for its client does not count, see ClientsTurn.
    """

    running: ClassVar[dict[int, tuple[float, Any]]] = {}  # this process's, by thread: since when, infinite at a pause

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def enter(self, worker: Any, request: Any) -> None:
        logs.request_id.set(None)  # the thread's last request is over, this one has none yet
        self.running[threading.get_ident()] = monotonic(), request

    def leave(self, worker: Any, request: Any, environ: dict, response: Any) -> None:
        self.running.pop(threading.get_ident(), None)

    def start(self, worker: Any) -> None:
        threading.Thread(target=self.watch, args=(worker,), name="watchdog", daemon=True).start()

    def watch(self, worker: Any) -> None:
        tick = threading.Event()  # never set: its wait is a pause that a daemon thread may end in
        while not (hung := self.older_than(self.limit)):
            tick.wait(min(1.0, self.limit / 10))
        for thread, request in hung.items():
            self.report(thread, request)
        worker.alive = False  # no new requests
        until = monotonic() + HUNG_GRACE
        while set(self.running) - set(hung) and monotonic() < until:
            tick.wait(0.05)
        logging.shutdown()
        os._exit(1)  # an ordinary exit would join the thread that hangs

    def older_than(self, limit: float) -> dict[int, Any]:
        now = monotonic()
        return {thread: request for thread, (since, request) in self.running.copy().items() if now - since > limit}

    def report(self, thread: int, request: Any) -> None:
        frame = sys._current_frames().get(thread)
        stack = "".join(traceback.format_stack(frame)) if frame else "the thread is gone"
        logging.getLogger("watchdog").critical(
            "a request hung for over %g s (REQUEST_TIMEOUT): ending its worker",
            self.limit,
            extra={"method": request.method, "path": request.uri, "stack": stack},
        )


class ClientsTurn:
    """Stops a request's clock while its client sends or reads.

    Such a wait is bounded by the proxy: `write 5m` for a reader, `read_body` for a sender.
    """

    __slots__ = ("began", "paused", "since", "thread")

    def __init__(self, thread: int) -> None:
        self.thread = thread

    def __enter__(self) -> None:
        self.paused = None
        if watched := Watchdog.running.get(self.thread):
            self.since, request = watched
            self.began = monotonic()
            Watchdog.running[self.thread] = self.paused = math.inf, request

    def __exit__(self, *_: Any) -> None:
        if self.paused and Watchdog.running.get(self.thread) is self.paused:  # it was not ended meanwhile
            Watchdog.running[self.thread] = self.since + monotonic() - self.began, self.paused[1]


def clients_turn(method: Callable) -> Callable:
    @functools.wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        with ClientsTurn(threading.get_ident()):
            return method(*arguments, **options)

    return call


class ClientSocket(socket.socket):
    """A connection's, in all places where gunicorn reads and writes. Its layout is its base's, which it replaces."""

    __slots__ = ()
    recv = clients_turn(socket.socket.recv)
    send = clients_turn(socket.socket.send)
    sendall = clients_turn(socket.socket.sendall)
    sendfile = clients_turn(socket.socket.sendfile)


class Logger(glogging.Logger):
    """gunicorn's logs through ours. Built from values: a format string makes broken JSON."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True

    def access(self, resp: Any, req: Any, environ: dict, request_time: timedelta) -> None:
        path = environ.get("RAW_URI", "")
        status = resp.status if isinstance(resp.status, int) else resp.status_code  # the ASGI worker's, gthread's
        if status < 400 and QUIET(path):
            return
        method = environ.get("REQUEST_METHOD")
        fields = {
            "request_id": environ.get("chassis.request_id") or logs.request_id.get(),
            "method": method,
            "path": path,
            "status": status,
            "bytes": getattr(resp, "sent", 0),
            "seconds": round(request_time.seconds + request_time.microseconds / 1e6, 4),
            "client": environ.get("REMOTE_ADDR"),
            "agent": environ.get("HTTP_USER_AGENT"),
        }
        logs.info(self.access_log, f"{method} {path} {status}", fields)


def share_metrics() -> None:
    """A directory in memory where every worker keeps its counters (prometheus_client's multiprocess mode)."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="metrics-", dir=shm.FOLDER)


def keep_counts() -> None:
    """What fails here ends no server: the next worker's end tries again."""
    from chassis import metrics  # which makes prometheus_client look for the directory

    try:
        metrics.keep_counts()
    except Exception:
        logging.getLogger("metrics").exception("the counters of workers that ended are still files of their own")
