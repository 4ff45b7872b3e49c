"""gunicorn's threaded worker with our own thread pool, and a response in one system call."""

import socket
from concurrent.futures import Future
from time import monotonic, sleep
from types import FrameType
from typing import TYPE_CHECKING, Any

from gunicorn.http import wsgi
from gunicorn.workers.gthread import TConn, ThreadWorker

from chassis.server import drain
from chassis.server.thread_pool import LeaderPool
from chassis.server.watchdog import ClientSocket

LINGER = 1.0  # seconds, see linger()
COURTESY = 0.001  # seconds, see Worker.accept


class Worker(ThreadWorker):
    """gthread with our own thread pool (thread_pool.py), fewer system calls per request, and a quick stop.

    When it stops, gunicorn keeps idle connections for two more seconds, since a client may be sending a
    request. By the end of a drain the proxy has long been told to send them elsewhere.
    """

    tpool: LeaderPool  # type: ignore[assignment] # gunicorn's is a ThreadPoolExecutor

    if TYPE_CHECKING:  # gunicorn's, which its stubs leave out

        def _cap_keepalive(self, deadline: float) -> None: ...

    def init_process(self) -> None:
        wsgi.Response = Response  # type: ignore[misc] # gunicorn has no option for it
        super().init_process()

    def get_thread_pool(self) -> LeaderPool:  # type: ignore[override]
        from chassis.observe import metrics  # it makes prometheus_client look for the counters' directory

        return LeaderPool(self.cfg.threads, self.handle, self.done, waited=metrics.THREAD_WAITS.observe)

    def accept(self, listener: socket.socket) -> None:
        """A worker with connections leaves a new one to its siblings for a moment, or a burst gathers in one worker."""
        if self.nr_conns:
            sleep(COURTESY)
        super().accept(listener)

    def enqueue_req(self, conn: TConn) -> None:
        if not conn.initialized:
            conn.sock.__class__ = ClientSocket
        self.tpool.put(conn)

    def done(self, conn: TConn, outcome: Future[bool]) -> None:
        self.method_queue.defer(self.finish_request, conn, outcome)

    def finish_request(self, conn: TConn, fs: Future[bool]) -> None:
        super().finish_request(conn, fs)
        if not self.alive:
            self._cap_keepalive(monotonic() + linger())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._cap_keepalive(monotonic() + linger())
        self.tpool.let_go()

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """Reads the rest of a body; if none is left, as usual, saves gunicorn's four changes of the socket's mode."""
        if keepalive and getattr(conn.parser.mesg.body.reader, "length", None) == 0:
            conn.parser.mesg = None  # nothing is left of it
            return True
        kept: bool = super()._keepalive_after(conn, keepalive)  # type: ignore[misc] # not in gunicorn's stubs
        return kept


def linger() -> float:
    """Seconds that a kept-alive connection gets at the end for a request that is already on its way."""
    return 0.0 if drain.is_over(LINGER) else LINGER


class Response(wsgi.Response):
    """Sends the headers with the first part of the body: one system call and one packet instead of two."""

    held = b""  # headers that are not sent yet

    def send_headers(self) -> None:
        if not self.headers_sent:
            lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
            self.held = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def write(self, arg: bytes) -> None:
        super().write(arg)
        self.flush()  # if there was no body to send

    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        held, self.held = self.held, b""
        self.sock.sendall(held + data)

    def flush(self) -> None:
        if self.held:
            held, self.held = self.held, b""
            self.sock.sendall(held)

    def sendfile(self, respiter: wsgi.FileWrapper) -> bool:
        self.send_headers()
        self.flush()
        return super().sendfile(respiter)

    def close(self) -> None:
        self.send_headers()
        self.flush()
        super().close()
