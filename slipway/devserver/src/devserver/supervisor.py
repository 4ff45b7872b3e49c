"""The process that outlives every reload: it owns the port, watches the sources, and knows the open pages."""

import json
import logging
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import urljoin

from chassis.observe import logs
from chassis.server import shm
from devserver import dependencies, generation, inspector, libraries, live, recording, waiting
from devserver.sources import Kind, Sources
from devserver.state import State

LISTENER = "DEV_LISTENER"  # the port's descriptor, if this process has restarted itself

log = logging.getLogger("dev")


def main() -> None:
    logs.configure(format="text")
    root = Path.cwd().parents[1]
    reload = waiting.setting(root)
    sys.exit(Supervisor(root, Path.cwd(), listener(), reload).run())


def listener() -> socket.socket:
    """The port's socket, kept over a restart of this process. It gets a connection only once a request has arrived on
    it: one that a browser has opened in advance waits for the newest code."""
    if (inherited := os.environ.pop(LISTENER, None)) is not None:
        return socket.socket(fileno=int(inherited))
    address = os.environ.get("BIND_ADDRESS") or "0.0.0.0", int(os.environ.get("PORT") or "8000")  # noqa: S104 - as chassis.settings
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        opened = socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        sys.exit(f"cannot listen on {address[0]}:{address[1]}: {(error.strerror or str(error)).lower()}.")
    if hasattr(socket, "TCP_DEFER_ACCEPT"):
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
    return opened


class Supervisor:
    """Forks a generation for each saved state of the code, and tells the browsers when it serves."""

    def __init__(self, root: Path, service: Path, port: socket.socket, reload: str) -> None:
        self.root, self.service, self.port = root, service, port
        self.selector = selectors.DefaultSelector()
        self.hub, self.state, self.compiled = live.Hub(self.selector), State(), libraries.Compiled()
        self.inspectors, self.requests = live.Hub(self.selector), inspector.Kept()
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * recording.MAX_BYTES)
        self.generations: dict[int, generation.Generation] = {}
        self.current: generation.Generation | None = None
        self.notices: dict[str, list[str]] = {}
        self.stopping = False
        self.sources = Sources(root, service)
        self.watch = waiting.Watch(self.sources, self.selector, reload, self.follow)
        self.dependencies = dependencies.Declared(root)

    def run(self) -> int:
        """Serves until a signal says to stop. Returns the exit status."""
        metrics = self.share_metrics()
        self.preload()
        self.compiled.update_from(self.sources.seen)
        self.listen()
        self.start()
        while not self.stopping:
            for key, _ in self.selector.select(self.watch.pause()):
                key.data()
            self.watch.look()
        self.stop()
        shutil.rmtree(metrics, ignore_errors=True)
        return 0

    def preload(self) -> None:
        """Runs again once broken code is fixed: broken code does not show all the libraries that it needs."""
        server = libraries.preload(self.root, "chassis.server.gunicorn")
        self.preloaded = libraries.preload(self.root, f"{os.environ['SERVICE']}.app") and server

    def share_metrics(self) -> str:
        """Makes the directory where all generations count, so that a reload does not start at zero."""
        place = tempfile.mkdtemp(prefix="metrics-", dir=shm.FOLDER)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = place
        return place

    def listen(self) -> None:
        self.ours.setblocking(False)
        self.signals = waiting.Signals(self.selector, self.asked_to_stop, self.reap)
        self.selector.register(self.ours, selectors.EVENT_READ, self.hear)
        self.watch.begin()

    def follow(self, changes: dict[str, Kind]) -> None:
        kinds = set(changes.values())
        named = waiting.named(changes)
        if "server" in kinds:
            self.start_anew(named)
        if "dependencies" in kinds:
            self.notices["dependencies"] = self.dependencies.notices()
        if "code" in kinds:
            log.info("%s changed: restarting", named)
            self.compiled.update_from(self.sources.seen)
            self.retire()
            self.start()
            return  # the browsers are told once it serves
        for kind in kinds & {"page", "style"}:
            self.state.grow(kind)
        self.tell()

    def start_anew(self, named: str) -> None:
        """Turns this process, whose own code was changed, into its new version, and keeps the port open."""
        check = [sys.executable, "-c", "import devserver.supervisor, devserver.layer"]
        if subprocess.run(check, check=False).returncode:
            log.error("%s changed, and the development server can't be imported: it goes on as it was", named)
            return
        log.info("%s changed: the development server restarts", named)
        self.stop()
        self.hub.close()
        self.inspectors.close()
        self.port.set_inheritable(True)
        os.environ[LISTENER] = str(self.port.fileno())
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - itself

    # --- the generations

    def start(self, error: BaseException | None = None) -> None:
        code = self.state.grow("code").code
        self.notices.pop("database", None)
        sys.stdout.flush()
        # Blocked: a signal to the child must not run this process's handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, waiting.STOP)
        if (pid := os.fork()) == 0:
            self.let_go()
            generation.run(code, self, error)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, waiting.STOP)
        self.current = self.generations[pid] = generation.Generation(code, pid, fallback=error is not None)

    def let_go(self) -> None:
        """Gives up, in a fork, what belongs to the parent alone."""
        signal.set_wakeup_fd(-1)
        for each in (*waiting.STOP, signal.SIGCHLD):
            signal.signal(each, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, waiting.STOP)
        self.hub.close()
        self.inspectors.close()
        self.selector.close()
        self.ours.close()
        if self.watch.inotify:
            self.watch.inotify.close()

    def retire(self) -> None:
        """The old code takes no new request from here on, and finishes those that it has."""
        if self.current:
            self.current.retire()
            self.current = None

    def hear(self) -> None:
        """Reads a worker's messages: that it serves, what it noticed, what a request did, a browser's connection."""
        with suppress(BlockingIOError):
            while True:
                data, descriptors, _, _ = socket.recv_fds(self.ours, 2 * recording.MAX_BYTES, 1)
                line, _, record = data.partition(b"\n")
                if record:
                    self.inspectors.tell(self.requests.add(data))
                elif descriptors:
                    self.lead(descriptors[0], json.loads(line))
                else:
                    self.note(json.loads(line))

    def lead(self, descriptor: int, message: dict[str, Any]) -> None:
        """Takes a browser's connection over."""
        if "requests" in message:
            self.inspectors.add(descriptor, self.requests.events(message["requests"]))
        else:
            self.hub.add(descriptor, live.HEAD + self.hub.event)

    def note(self, message: dict[str, Any]) -> None:
        if self.current is None or message["code"] != self.current.code:
            return  # from a generation that is replaced already
        if "worker" in message:
            self.current.serves(message["worker"], message["broken"])
            self.show(self.current)
            if not self.preloaded and not self.current.broken:
                self.preload()
        if "notices" in message:
            self.notices["database"] = message["notices"]
        if message.get("refresh"):
            self.state.grow("page")
        self.tell()

    def show(self, served: generation.Generation) -> None:
        log.info("%s after %d ms", "the error page is up" if served.broken else "serving", served.took)
        if not self.watch.settled and (url := os.environ.get("DEV_URL")):
            log.info("open %s; what requests did: %s", url, urljoin(url, inspector.PATH))
        self.watch.settled = True

    def tell(self) -> None:
        if self.current and self.current.worker:
            notices = [notice for group in self.notices.values() for notice in group]
            stamp = self.state.read()._replace(code=self.current.code)
            self.hub.tell(live.event({**stamp._asdict(), "broken": self.current.broken, "notices": notices}))

    # --- signals

    def reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                gone = self.generations.pop(ended[0], None)
                if gone and gone is self.current and not self.stopping:
                    self.replace(gone, os.waitstatus_to_exitcode(ended[1]))

    def replace(self, gone: generation.Generation, status: int) -> None:
        """Replaces it with the page that says so; if not even that could start, the next save replaces it."""
        log.error("the server ended by itself, with status %d", status)
        self.current = None
        if gone.worker or not gone.fallback:
            self.start(generation.Ended(status))

    def asked_to_stop(self, number: int, frame: object) -> None:
        if self.stopping:
            self.kill()
        self.stopping = True

    def stop(self) -> None:
        """Requests in flight get GRACEFUL_TIMEOUT seconds."""
        self.stopping = True
        for each in self.generations.values():
            each.retire()
        until = monotonic() + float(os.environ.get("GRACEFUL_TIMEOUT") or 2)
        while self.generations and monotonic() < until:
            self.reap()
            self.hear()  # or a worker with much to say would wait
            sleep(0.01)
        self.kill()

    def kill(self) -> None:
        for pid in self.generations:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
