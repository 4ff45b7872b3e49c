import math
import os
from datetime import timedelta
from types import SimpleNamespace

import pytest
from gunicorn.config import Config
from gunicorn.http.wsgi import FileWrapper

from chassis.server import access_log, worker
from chassis.server.sizing import cpus, memory, workers
from chassis.server.worker import Response


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "50000 100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
    ],
)
def test_the_cgroups_cpus_count_not_the_machines(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert cpus(tmp_path) == expected


@pytest.mark.parametrize("files", [{}, {"cpu.max": "max 100000"}, {"cpu.max": "nonsense"}])
def test_without_a_limit_it_is_the_machines(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert cpus(tmp_path) == (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "268435456"}, 2**28),
        ({"memory/memory.limit_in_bytes": "268435456"}, 2**28),
        ({"memory.max": "max"}, math.inf),
        ({}, math.inf),
    ],
)
def test_the_cgroups_memory_counts(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert memory(tmp_path) == expected


@pytest.mark.parametrize(
    ("processors", "megabytes", "expected"),
    [(0.5, 512, 2), (2, 512, 2), (3, 512, 3), (64, 512, 4), (64, math.inf, 4), (4, 300, 3), (4, 128, 2)],
)
def test_two_workers_at_the_least_and_four_at_the_most(monkeypatch, processors, megabytes, expected):
    monkeypatch.setattr("chassis.server.sizing.cpus", lambda: processors)
    monkeypatch.setattr("chassis.server.sizing.memory", lambda: megabytes * 2**20)
    assert workers() == expected


@pytest.mark.parametrize(
    ("path", "status", "lines"),
    [
        ("/health/ready", 200, 0),
        ("/metrics", 200, 0),
        ("/status", 200, 0),
        ("/status?only=this", 200, 0),
        ("/status", 401, 1),
        ("/statuses", 200, 1),
        ("/metrics-report", 200, 1),
        ("/healthy", 200, 1),
    ],
)
def test_only_what_is_asked_every_few_seconds_is_not_logged(caplog, path, status, lines):
    caplog.set_level("INFO")
    response = SimpleNamespace(status=status)
    access_log.Logger(Config()).access(response, None, {"RAW_URI": path}, timedelta(seconds=1))
    assert len(caplog.records) == lines


@pytest.fixture
def sent():
    """Answers with Response, and returns what it passed to the socket in each call."""
    given = []
    sock = SimpleNamespace(
        sendall=lambda data: given.append(bytes(data)),
        sendfile=lambda file, offset=0, count=None: given.append(file.read(count)),
    )

    def answer(chunks, length=None, method="GET", status="200 OK"):
        request = SimpleNamespace(method=method, version=(1, 1), should_close=lambda: False)
        response = Response(request, sock, Config())
        response.start_response(status, [("Content-Length", str(length))] if length is not None else [])
        if isinstance(chunks, FileWrapper):
            response.write_file(chunks)
        else:
            for chunk in chunks:
                response.write(chunk)
        response.close()
        return given

    return answer


def test_an_answer_of_one_piece_is_sent_in_one(sent):
    (whole,) = sent([b"hello"], length=5)
    head, body = whole.split(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"hello"


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")]
)
@pytest.mark.parametrize("chunks", [[], [b""], [b"dropped"]])
def test_an_answer_without_a_body_is_its_headers(sent, method, status, chunks):
    (whole,) = sent(chunks, length=7, method=method, status=status)
    assert whole.endswith(b"\r\n\r\n")


def test_a_stream_is_sent_as_it_comes(sent):
    first, second, end = sent([b"one", b"three"])
    assert first.endswith(b"\r\n\r\n3\r\none\r\n")
    assert second == b"5\r\nthree\r\n"
    assert end == b"0\r\n\r\n"


def test_a_stream_that_has_nothing_yet_sends_its_headers(sent):
    head, first, _ = sent([b"", b"one"])
    assert head.endswith(b"\r\n\r\n")
    assert first == b"3\r\none\r\n"


def test_a_file_follows_its_headers(sent, tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 1000)
    with (tmp_path / "file").open("rb") as file:
        assert b"".join(sent(FileWrapper(file), length=1000)).endswith(b"\r\n\r\n" + b"x" * 1000)


@pytest.mark.parametrize(("connections", "waits"), [(0, []), (1, [worker.COURTESY]), (9, [worker.COURTESY])])
def test_a_worker_with_connections_leaves_a_new_one_to_its_siblings_for_a_moment(monkeypatch, connections, waits):
    done = []
    monkeypatch.setattr(worker, "sleep", done.append)
    monkeypatch.setattr(worker.ThreadWorker, "accept", lambda self, listener: done.append(listener))
    busy = worker.Worker.__new__(worker.Worker)
    busy.nr_conns = connections
    busy.accept("listener")
    assert done == [*waits, "listener"]
