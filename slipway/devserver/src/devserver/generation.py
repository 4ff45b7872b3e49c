"""Serves one state of the code: gunicorn as the service configures it, forked from the supervisor."""

import ctypes
import json
import logging
import os
import runpy
import signal
import sys
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from gunicorn.app.base import BaseApplication
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.workers.base import Worker

from chassis.server import shm
from devserver import asgi, libraries
from devserver.layer import Layer, listen
from devserver.page import Broken

if TYPE_CHECKING:
    from devserver.supervisor import Supervisor

TIMEOUT = 3600  # seconds that a request on old code may take to finish: only a stop hurries it

log = logging.getLogger("dev")


class Ended(Exception):
    """The server ended by itself."""

    def __init__(self, status: int) -> None:
        super().__init__(f"The server ended by itself, with status {status}. The log says more.")


class Unloadable(Exception):
    """The ASGI app can't be loaded; the cause says why. The error page is WSGI, so another server has to show it."""


class Generation:
    """The supervisor's view of a generation: gunicorn's process, and the worker's once it serves."""

    def __init__(self, code: int, pid: int, fallback: bool) -> None:
        self.code, self.pid, self.begun, self.fallback = code, pid, monotonic(), fallback
        self.worker: int | None = None
        self.broken = False

    def serves(self, worker: int, broken: bool) -> None:
        self.worker, self.broken = worker, broken
        self.took = (monotonic() - self.begun) * 1000

    def retire(self) -> None:
        """Signals the worker as well: gunicorn's master may be asleep for a tenth of a second."""
        for pid in (self.pid, self.worker):
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)


def run(code: int, supervisor: "Supervisor", error: BaseException | None) -> NoReturn:
    """Serves the code as it is saved now, or a page that says what is wrong with it; never returns."""
    os.setsid()  # a group of its own, so that it can be ended as a whole, and Ctrl-C reaches only the supervisor
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: nothing is left behind
    libraries.forget(supervisor.root)
    supervisor.compiled.use()
    sys.argv = ["gunicorn"]
    try:
        if error is None:
            try:
                Server(code, supervisor).run()
            except Unloadable as problem:
                error = problem.__cause__
            except Exception as problem:
                error = problem
        if error is not None:
            log.error("the app can't start", exc_info=error)
            Fallback(code, supervisor, error).run()
    except SystemExit as leaving:
        os._exit(leaving.code if isinstance(leaving.code, int) else 1)
    except BaseException:
        log.exception("the development server failed")
        os._exit(1)
    os._exit(0)


class Served(BaseApplication):
    """What both kinds of server have: the supervisor's port, one worker, and the development layer."""

    def __init__(self, code: int, supervisor: "Supervisor") -> None:
        self.code, self.supervisor = code, supervisor
        self.error: BaseException | None = None
        self.layer: Layer | None = None
        super().__init__()

    def do_load_config(self) -> None:
        """gunicorn's own method exits where this should raise."""
        self.load_default_config()
        self.load_config()
        self.change_config()
        self.cfg.validate()

    def change_config(self) -> None:
        initialised = self.cfg.post_worker_init

        def begin(worker: Worker) -> None:
            initialised(worker)
            self.tell(worker)

        chosen = {
            "bind": f"fd://{os.dup(self.supervisor.port.fileno())}",
            "workers": 1,
            "preload_app": True,
            "keepalive": 0,  # no connection outlives its answer, so none is cut by a reload
            "graceful_timeout": TIMEOUT,
            "loglevel": "warning",
            "control_socket_disable": True,
            "worker_tmp_dir": shm.FOLDER,
            "on_exit": lambda server: None,  # the counters are the supervisor's
            "post_worker_init": begin,
        }
        self.is_asgi = "asgi" in self.cfg.worker_class_str  # chassis.server.asgi_worker, or gunicorn's own
        for name, value in chosen.items():
            self.cfg.set(name, value)

    def tell(self, worker: Worker) -> None:
        self.say(worker=worker.pid, broken=self.error is not None)
        if self.layer:
            self.layer.migrations.start()

    def say(self, **message: Any) -> None:
        with suppress(OSError):
            self.supervisor.theirs.send(json.dumps({"code": self.code, **message}).encode())

    def dressed(self, app: Any) -> Layer:
        listen(self.supervisor.root)
        self.layer = Layer(app, self.code, self.supervisor, self.say)
        return self.layer

    def recorded(self, app: Any) -> asgi.Layer:
        listen(self.supervisor.root, flask=False)
        return asgi.Layer(app, self.supervisor)

    def broken(self, error: BaseException) -> Broken:
        return Broken(self.supervisor.root, error, self.supervisor.notices.get("dependencies", []))


class Server(Served, WSGIApplication):
    """The service's own gunicorn. Raises whatever its configuration raises."""

    def load_config(self) -> None:
        check_settings()
        super().load_config()

    def get_config_from_filename(self, filename: str) -> dict[str, Any]:
        return runpy.run_path(filename)

    def load(self) -> Any:
        try:
            app = self.load_wsgiapp()
        except BaseException as error:  # SystemExit too: whatever it is, the developer should see it
            if self.is_asgi:
                raise Unloadable from error
            log.exception("the app can't start")
            self.error = error
            return self.dressed(self.broken(error))
        return self.recorded(app) if self.is_asgi else self.dressed(app)


class Fallback(Served):
    """Serves only the error page, if not even gunicorn's configuration can be loaded."""

    error: BaseException

    def __init__(self, code: int, supervisor: "Supervisor", error: BaseException) -> None:
        super().__init__(code, supervisor)
        self.error = error

    def load_config(self) -> None:
        self.cfg.set("worker_class", "gthread")
        self.cfg.set("threads", 4)

    def load(self) -> Any:
        return self.dressed(self.broken(self.error))


def check_settings() -> None:
    """Raises SettingsError if they are wrong; gunicorn's configuration would log it and exit."""
    from chassis.settings import of_service

    of_service().load()
