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
LIMIT = 1  # seconds: REQUEST_TIMEOUT


class Service:
    def __init__(self, folder: Path, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.counters, self.out = folder / "counters", folder / "log"
        self.counters.mkdir()
        environ = {
            **os.environ,
            "PYTHONPATH": str(HERE),
            "SERVICE": "served",
            "PORT": str(self.port),
            "BIND_ADDRESS": "127.0.0.1",
            "WEB_CONCURRENCY": "2",
            "REQUEST_TIMEOUT": str(LIMIT),
            "DRAIN_DELAY": "0",
            "PROMETHEUS_MULTIPROC_DIR": str(self.counters),
            **environment,
        }
        with self.out.open("wb") as log:
            command = [sys.executable, "-m", "gunicorn", "-c", str(HERE / "served/gunicorn.conf.py")]
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

    def counted(self, route: str) -> int:
        """What /metrics says of it, whichever worker is asked."""
        line = rf'^http_requests_total{{method="GET",route="{route}",status="200"}} ([\d.]+)$'
        return sum(int(float(each)) for each in re.findall(line, self.get("/metrics").decode(), re.MULTILINE))

    def log(self) -> str:
        return self.out.read_text()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(SOON)


@pytest.fixture
def service(tmp_path):
    service = Service(tmp_path)
    yield service
    service.stop()


def test_what_workers_counted_stays_when_they_die_and_their_files_do_not(service):
    def counts():
        while not done.is_set():
            with suppress(OSError, http.client.HTTPException):  # of the worker that is killed
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
    assert len(list(service.counters.iterdir())) <= 3 * 2 + 1  # two workers' and those of the dead, and the lock


def wait_for(state):
    pause = threading.Event()
    for _ in range(SOON * 20):
        if state():
            return
        pause.wait(0.05)
    raise AssertionError(f"not within {SOON} s")
