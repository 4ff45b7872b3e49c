"""A service as production starts it: real processes and sockets, without a container."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOON = 20  # seconds, a deadline
LARGE = 24 * 2**20  # bytes: more than the sockets' buffers hold
LIMIT = 1  # seconds: REQUEST_TIMEOUT
HUNG = "a request hung for over 1 s (REQUEST_TIMEOUT)"


class Service:
    def __init__(self, folder: Path, config: str, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.counters, self.out = folder / "counters", folder / "log"
        self.counters.mkdir()
        environ = {
            **os.environ,
            "PYTHONPATH": str(HERE),
            "SERVICE": "served",
            "LARGE": str(LARGE),
            "PORT": str(self.port),
            "BIND_ADDRESS": "127.0.0.1",
            "WEB_CONCURRENCY": "2",
            "REQUEST_TIMEOUT": str(LIMIT),
            "DRAIN_DELAY": "0",
            "GRACEFUL_TIMEOUT": "2",
            "PROMETHEUS_MULTIPROC_DIR": str(self.counters),
            **environment,
        }
        with self.out.open("wb") as log:
            command = [sys.executable, "-m", "gunicorn", "-c", str(HERE / "served" / config)]
            self.process = subprocess.Popen(command, env=environ, cwd=folder, stdout=log, stderr=log)
        wait_for(self.answers)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        with suppress(OSError, http.client.HTTPException):
            return bool(self.get("/metrics"))
        return False

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SOON)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            return body if answer.status == 200 else b""
        finally:
            connection.close()

    def ask(self, line: str, rest: str = "\r\n") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=SOON)
        connection.sendall(f"{line} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{rest}".encode())
        return connection

    def counted(self, route: str) -> int:
        """The route's count in /metrics, whichever worker answers."""
        line = rf'^http_requests_total{{method="GET",route="{route}",status="200"}} ([\d.]+)$'
        return sum(int(float(each)) for each in re.findall(line, self.get("/metrics").decode(), re.MULTILINE))

    def log(self) -> str:
        return self.out.read_text()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(SOON)


@pytest.fixture
def service(tmp_path):
    service = Service(tmp_path, "gunicorn.conf.py")
    yield service
    service.stop()


@pytest.fixture(scope="module", params=["gunicorn.conf.py", "asgi.conf.py"])
def either(tmp_path_factory, request):
    service = Service(tmp_path_factory.mktemp("either"), request.param, WEB_CONCURRENCY="1")
    yield service
    service.stop()


def test_what_workers_counted_stays_when_they_die_and_their_files_do_not(service):
    def counts():
        while not done.is_set():
            with suppress(OSError, http.client.HTTPException):  # from the worker that is killed
                seen.append(service.counted("/pid"))

    seen, done = [], threading.Event()
    scraper = threading.Thread(target=counts)
    scraper.start()
    try:
        for _ in range(8):
            for _ in range(5):
                pid = int(service.get("/pid"))
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not list(service.counters.glob(f"*_{pid}.db")))  # noqa: B023 - called in this round
    finally:
        done.set()
        scraper.join()
    assert service.counted("/pid") == 8 * 5
    assert seen == sorted(seen)
    assert len(list(service.counters.iterdir())) <= 3 * 2 + 1  # two workers' files, those of dead workers, and the lock


def test_a_scrape_is_whole_while_a_worker_opens_its_files(service):
    before = service.counted("/pid")
    (service.counters / f"counter_{service.process.pid}.db").touch()  # as it is between open and truncate
    assert service.get("/metrics")
    assert service.counted("/pid") == before


def test_slow_readers_and_senders_are_served_and_so_are_those_beside(either):
    before = either.get("/pid")
    readers = [either.ask(f"GET {path}") for path in ("/large", "/large", "/streamed")]
    sender = either.ask("POST /upload", "Content-Length: 8\r\n\r\n1234")
    pause(2.5 * LIMIT)
    assert all(sum(map(len, rest(reader))) > LARGE for reader in readers)
    sender.sendall(b"5678")
    assert b"".join(rest(sender)).startswith(b"HTTP/1.1 200")
    assert either.get("/pid") == before
    assert "hung" not in either.log()


@pytest.mark.parametrize("path", ["/hangs", "/hangs_later"])
def test_a_request_that_hangs_is_ended_even_after_it_began_to_answer(either, path):
    told = either.log().count(HUNG)
    got = b"".join(rest(either.ask(f"GET {path}")))
    assert got.startswith(b"HTTP/1.1 200") if path == "/hangs_later" else b"200" not in got[:20]
    assert either.log().count(HUNG) == told + 1
    wait_for(either.answers)


def rest(sock):
    """What the server still sends until the connection is closed."""
    with sock, suppress(ConnectionResetError):
        while got := sock.recv(2**20):
            yield got


def pause(seconds):
    threading.Event().wait(seconds)


def wait_for(state):
    pause = threading.Event()
    for _ in range(SOON * 20):
        if state():
            return
        pause.wait(0.05)
    raise AssertionError(f"not within {SOON} s")


@pytest.mark.parametrize("config", ["gunicorn.conf.py", "asgi.conf.py"])
def test_a_drain_ends_once_the_proxy_has_been_answered_and_not_before(tmp_path, config):
    service = Service(tmp_path, config, DRAIN_DELAY="60")
    try:
        assert service.get("/health/ready?for=traffic")
        service.process.terminate()
        wait_for(lambda: not service.get("/health/ready"))
        assert service.process.poll() is None
        assert not service.get("/health/ready?for=traffic")
        service.process.wait(SOON)
    finally:
        service.stop()
