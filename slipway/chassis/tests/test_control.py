"""What an operator asks of running processes: real servers, and a worker, without a container."""

import json
import os
import subprocess
import sys
import tempfile

import pytest

from slipway.chassis.tests.test_serving import COMMANDS, SOON, Service, wait_for


@pytest.fixture
def folder():
    """One of its own for sockets, whose paths may have 107 characters, 103 on macOS."""
    with tempfile.TemporaryDirectory() as folder:
        yield folder


@pytest.fixture(params=COMMANDS)
def service(tmp_path, folder, request):
    service = Service(tmp_path, *COMMANDS[request.param], TMPDIR=folder, REQUEST_TIMEOUT="10")
    service.folder = folder
    yield service
    service.stop()


def ask(folder, *words):
    command = [sys.executable, "-m", "chassis.server.control", *words]
    return subprocess.run(
        command, env=os.environ | {"TMPDIR": folder}, capture_output=True, text=True, check=False, timeout=SOON
    )


def lines(service, **wanted):
    every = [json.loads(line) for line in service.log().splitlines()]
    return [line for line in every if wanted.items() <= line.items()]


def test_the_log_level_is_another_one_for_a_while_in_each_process_and_in_those_that_start_meanwhile(service):
    said = ask(service.folder, "level", "DEBUG", "4").stdout.splitlines()
    assert [line.partition(",")[0] for line in said] == ["server", "worker", "worker"]
    assert all(line.endswith("DEBUG for 4 s, then INFO") for line in said)
    os.kill(int(service.get("/pid")), 9)
    wait_for(lambda: len(ask(service.folder, "level", "DEBUG", "4").stdout.splitlines()) == 3)
    assert not lines(service, logger="control", message="the log level is INFO again")
    wait_for(lambda: len(lines(service, logger="control", message="the log level is INFO again")) == 3)
    assert ask(service.folder, "level", "ERROR", "0").stdout.count(": INFO") == 3


def test_every_stack_is_in_the_log_with_the_request_that_its_thread_serves(service):
    asked = service.ask("GET /hangs")
    with asked:
        wait_for(lambda: ask(service.folder, "stacks").stdout.count("stacks are in the log") == 3 and hanging(service))
    (found, *_) = hanging(service)
    assert "of_task" in found or (found["method"], found["path"]) == ("GET", "/hangs")


def hanging(service):
    """The stacks that lead to the view, or to the task of an ASGI app."""
    places = ("served/__init__.py", "served/asgi.py")
    return [line for line in lines(service, logger="control") if any(each in line.get("stack", "") for each in places)]


def test_where_nothing_runs_it_says_so(folder):
    run = ask(folder, "stacks")
    assert (run.returncode, run.stdout) == (1, "no process here can be asked\n")
    assert ask(folder, "levels").returncode == 2


def test_a_server_whose_folder_is_too_deep_for_sockets_says_so_and_serves(tmp_path):
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    service = Service(tmp_path, *COMMANDS["gunicorn"], TMPDIR=str(deep))
    try:
        assert lines(service, message="this process can be asked for nothing: AF_UNIX path too long")
        wait_for(lambda: b"http_threads" in service.get("/metrics"))
    finally:
        service.stop()
