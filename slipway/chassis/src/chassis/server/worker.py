"""gunicorn's threaded worker with threads of our own, and a response in one system call."""

from time import monotonic, sleep
from typing import Any

from gunicorn.http import wsgi
from gunicorn.workers.gthread import ThreadWorker

from chassis.server import drain
from chassis.server.thread_pool import LeaderPool
from chassis.server.watchdog import ClientSocket

LINGER = 1.0  # seconds, see linger()
COURTESY = 0.001  # seconds, see Worker.accept


class Worker(ThreadWorker):
    """gthread with threads of our own (thread_pool.py), fewer system calls a request, and a short way to the end.

    At a stop gunicorn keeps idle connections for two more seconds, since a client may be sending a
    request. By the end of a drain the proxy has long been told to send them elsewhere.
    """

    def init_process(self) -> None:
        wsgi.Response = Response  # gunicorn has no option for it
        super().init_process()

    def get_thread_pool(self) -> LeaderPool:
        return LeaderPool(self.cfg.threads, self.handle, self.done)

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
