"""A service as production starts it: real processes and sockets, without a container."""

import http.client
import json
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


COMMANDS = {
    "gunicorn": ["gunicorn", "-c", str(HERE / "served/gunicorn.conf.py")],
    "asgi": ["gunicorn", "-c", str(HERE / "served/asgi.conf.py")],
    "uwsgi": ["chassis.server.uwsgi", str(HERE / "served/gunicorn.conf.py")],
}


class Service:
    def __init__(self, folder: Path, *command: str, stdout: int | None = None, **environment: str) -> None:
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
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command], env=environ, cwd=folder, stdout=stdout or log, stderr=log
            )
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


@pytest.fixture(params=["gunicorn", "uwsgi"])
def service(tmp_path, request):
    service = Service(tmp_path, *COMMANDS[request.param])
    yield service
    service.stop()


@pytest.fixture(scope="module", params=COMMANDS)
def either(tmp_path_factory, request):
    service = Service(tmp_path_factory.mktemp("either"), *COMMANDS[request.param], WEB_CONCURRENCY="1")
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
        for _ in range(4):
            for _ in range(5):
                pid = int(service.get("/pid"))
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not list(service.counters.glob(f"*_{pid}.db")))  # noqa: B023 - called in this round
    finally:
        done.set()
        scraper.join()
    assert service.counted("/pid") == 4 * 5
    assert seen == sorted(seen)
    # Two workers' files, those of dead workers, the first process's own, and the lock.
    assert len(list(service.counters.iterdir())) <= 4 * 2 + 1


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


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Content-Length: 8", "12345678"),
        ("Content-Length: 8\r\nExpect: 100-continue", "12345678"),
        ("Transfer-Encoding: chunked", "3\r\n123\r\n5\r\n45678\r\n0\r\n\r\n"),
    ],
)
def test_a_body_arrives_however_it_is_sent(either, headers, body):
    sender = either.ask("POST /upload", f"{headers}\r\n\r\n")
    if "Expect" in headers:
        assert sender.recv(21) == b"HTTP/1.1 100 Continue"
    sender.sendall(body.encode())
    assert b"".join(rest(sender)).rstrip(b"\r\n0").endswith(b"\r\n8")


def test_no_body_is_asked_for_after_the_response(either):
    answer = b"".join(rest(either.ask("POST /pid", "Content-Length: 8\r\nExpect: 100-continue\r\n\r\n")))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer)[-1] != b"100"


@pytest.mark.parametrize("either", ["uwsgi"], indirect=True)
def test_a_response_arrives_although_the_body_was_not_wanted(either):
    asked = either.ask("POST /pid", f"Content-Length: {10**6}\r\n\r\n")
    asked.sendall(b"x" * 10**6)
    assert re.match(rb"HTTP/1.1 (200|405)", b"".join(rest(asked)))


def test_a_body_that_is_cut_is_not_taken_for_complete(either):
    sender = either.ask("POST /upload", "Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n5\r\n45")
    sender.shutdown(socket.SHUT_WR)
    assert b" 200 " not in b"".join(rest(sender))[:15]


def test_too_many_headers_are_refused(either):
    asked = either.ask("GET /pid", "".join(f"A-{number}: a\r\n" for number in range(500)) + "\r\n")
    assert b" 431 " in b"".join(rest(asked))[:15]


def test_a_response_to_head_is_its_headers(either):
    assert b"".join(rest(either.ask("HEAD /large"))).endswith(b"\r\n\r\n")


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


@pytest.mark.parametrize("server", ["gunicorn", "uwsgi"])
def test_a_stop_finishes_the_requests_that_no_thread_has_taken_yet(tmp_path, server):
    one = {"WEB_CONCURRENCY": "1", "WEB_THREADS": "1"}
    service = Service(tmp_path, *COMMANDS[server], **one, DRAIN_DELAY="0.5", GRACEFUL_TIMEOUT="20")
    try:
        asked = [service.ask("GET /slow") for _ in range(4)]
        service.process.terminate()
        assert all(b"".join(rest(each)).endswith(b"done") for each in asked)
        assert service.process.wait(SOON) == 0
    finally:
        service.stop()


@pytest.mark.parametrize("server", COMMANDS)
def test_a_log_that_is_not_read_holds_up_no_request(tmp_path, server):
    reader, pipe = os.pipe()
    service = Service(tmp_path, *COMMANDS[server], stdout=pipe)
    try:
        for _ in range(200):
            assert service.get("/pid?" + "x" * 1000)
        os.set_blocking(pipe, False)
        with pytest.raises(BlockingIOError):  # it is full
            os.write(pipe, b"x" * 4096)
    finally:
        service.stop()
        os.close(reader)
        os.close(pipe)


@pytest.mark.parametrize("server", COMMANDS)
def test_a_drain_ends_once_the_proxy_has_been_answered_and_not_before(tmp_path, server):
    service = Service(tmp_path, *COMMANDS[server], DRAIN_DELAY="60")
    try:
        assert service.get("/health/ready?for=traffic")
        service.process.terminate()
        wait_for(lambda: not service.get("/health/ready"))
        assert service.process.poll() is None
        assert not service.get("/health/ready?for=traffic")
        service.process.wait(SOON)
    finally:
        service.stop()


@pytest.mark.parametrize("server", COMMANDS)
def test_a_drain_lasts_while_another_proxy_sends_requests_and_moves_its_connection_on(tmp_path, server):
    """One of several proxies knows, such as one on each node of a swarm."""
    service = Service(tmp_path, *COMMANDS[server], DRAIN_DELAY="60")
    kept = http.client.HTTPConnection("127.0.0.1", service.port, timeout=SOON)
    try:
        assert service.get("/health/ready?for=traffic")
        kept.request("GET", "/pid")
        assert kept.getresponse().read()
        service.process.terminate()
        wait_for(lambda: not service.get("/health/ready?for=traffic"))
        kept.request("GET", "/pid")
        answer = kept.getresponse()
        assert answer.read()
        assert answer.getheader("Connection") == "close"
        for _ in range(20):
            assert service.get("/pid")
            pause(0.1)
        service.process.wait(SOON)
    finally:
        kept.close()
        service.stop()


def test_options_for_uwsgi_replace_ours(tmp_path):
    service = Service(tmp_path, *COMMANDS["uwsgi"], "--processes=1")
    try:
        assert len({service.get("/pid") for _ in range(10)}) == 1
        assert '"message":"spawned uWSGI worker 2' not in service.log()
    finally:
        service.stop()


@pytest.mark.parametrize(
    ("config", "environment", "said"),
    [
        ("gunicorn.conf.py", {"UWSGI_PROCESES": "3"}, "unknown config directive: proceses"),
        ("asgi.conf.py", {}, "uWSGI can't run an ASGI app: build this service's image with SERVER=gunicorn."),
    ],
)
def test_what_uwsgi_can_not_do_stops_the_start_with_one_line(tmp_path, config, environment, said):
    with pytest.raises(AssertionError) as start:
        Service(tmp_path, "chassis.server.uwsgi", str(HERE / "served" / config), **environment)
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert said in json.loads(line)["message"]
    assert said in str(start.value)


def test_an_asgi_app_is_told_that_it_starts_and_that_it_stops(tmp_path):
    service = Service(tmp_path, *COMMANDS["asgi"])
    try:
        wait_for(lambda: service.log().count('"message":"lifespan.startup"') == 2)  # once in each worker
    finally:
        service.stop()
    assert service.log().count('"message":"lifespan.shutdown"') == 2
