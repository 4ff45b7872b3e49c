"""The service `traced` of the chassis's tests, in real processes, and what may go wrong where it sends something."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from chassis.settings.address import Address

T = TypeVar("T")

HERE = Path(__file__).parents[3] / "chassis/tests"
SOON = 20  # seconds, a deadline
SERVERS = {
    "gunicorn": ["gunicorn", "-c", str(HERE / "traced/gunicorn.conf.py")],
    "uwsgi": ["chassis.server.uwsgi", str(HERE / "traced/gunicorn.conf.py")],
    "fastapi": ["gunicorn", "-c", str(HERE / "traced/fastapi.conf.py")],
    "sanic": ["gunicorn", "-c", str(HERE / "traced/sanic.conf.py")],
}


class Running:
    """A program of the service `traced`, which sends its traces to an endpoint unless that is empty."""

    def __init__(self, folder: Path, address: Address, endpoint: str, *command: str, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.out = folder / "log"
        environ = {
            **os.environ, "PYTHONPATH": str(HERE), "SERVICE": "traced", "VERSION": "v7", "APP_ENV": "test",
            "BIND_ADDRESS": "127.0.0.1", "PORT": str(self.port),
            "WEB_CONCURRENCY": "1", "WEB_THREADS": "2", "DRAIN_DELAY": "0",
            "DATABASE_URL": address.url, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_TRACES_SAMPLER": "", **environment,
        }  # fmt: skip
        with self.out.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command], env=environ, cwd=folder, stdout=subprocess.PIPE, stderr=log
            )
        self.lines: list[bytes] = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout
        self.lines.extend(iter(self.process.stdout.readline, b""))

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SOON)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def serves(self) -> bool:
        assert self.process.poll() is None, self.out.read_text() + b"".join(self.lines).decode()
        with suppress(OSError, http.client.HTTPException):
            return self.get("/health/live")[0] == 200
        return False

    def delays(self, path: str, status: int, requests: int) -> tuple[float, float]:
        """Seconds that the slowest of the requests took, and then the stop, which has to end well."""
        taken = [elapsed(lambda: self.get(path)) for _ in range(requests)]
        assert {answer[0] for answer, _ in taken} == {status}
        self.process.terminate()
        ended, stop = elapsed(lambda: self.process.wait(SOON))
        assert ended == 0
        return max(seconds for _, seconds in taken), stop

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(SOON)
        self.reader.join(SOON)


@contextmanager
def serving(
    folder: Path, address: Address, endpoint: str, server: str = "gunicorn", **environment: str
) -> Iterator[Running]:
    service = Running(folder, address, endpoint, *SERVERS[server], **environment)
    try:
        wait_for(service.serves)
        yield service
    finally:
        service.stop()


def wait_for(state: Callable[[], T]) -> T:
    until = time.monotonic() + SOON
    while not (found := state()):
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)
    return found


def elapsed(call: Callable[[], T]) -> tuple[T, float]:
    begun = time.monotonic()
    return call(), time.monotonic() - begun


class Trouble:
    """What may stand where a collector should: one of TROUBLES, or nothing, since it is away."""

    def __init__(self, trouble: str) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.answer = TROUBLES.get(trouble)
        self.connections: list[socket.socket] = []
        threading.Thread(target=self.serve, daemon=True).start()
        if trouble not in TROUBLES:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections.append(connection)
                if self.answer:
                    connection.recv(65536)
                    connection.sendall(self.answer)
                    connection.close()

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # or the thread in accept keeps the port open
        self.listener.close()


TROUBLES = {
    "never answers": b"",
    "answers nonsense": b"\x00\xff not HTTP at all\r\n\r\n",
    "fails": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nfail",
    "is overloaded": b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n",
}
