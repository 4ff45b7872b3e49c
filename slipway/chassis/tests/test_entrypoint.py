"""The entrypoint as a process, the way tini starts it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chassis.process.entrypoint import permanent
from chassis_testing.postgres import Postgres, free_port

DATABASE_COMMAND = [sys.executable, "-c", "print('started')", "gunicorn"]  # a word to wait for
SECRET = {"SECRET_KEY": "k", "APP_ENV": "test", "LOG_LEVEL": "INFO"}


def run(*command: str, **environ: str) -> subprocess.CompletedProcess:
    environ = {"PATH": os.environ["PATH"], **SECRET, **environ}
    return subprocess.run(
        [sys.executable, "-m", "chassis.process.entrypoint", *command],
        env=environ, capture_output=True, text=True, timeout=60, check=False, cwd="/",
    )  # fmt: skip


def waits(**environ: str) -> subprocess.CompletedProcess:
    return run(sys.executable, "-c", "print('started')", DATABASE_WAIT_COMMANDS="-c", **environ)


def messages(result: subprocess.CompletedProcess) -> list[str]:
    return [json.loads(line)["message"] for line in result.stdout.splitlines() if line.startswith("{")]


def test_any_command_runs_with_no_settings_at_all_and_keeps_its_exit_code():
    result = run(sys.executable, "-c", "print('hello'); raise SystemExit(7)")
    assert (result.stdout, result.returncode) == ("hello\n", 7)


SHOW = f"{sys.executable} -c 'import sys; print(sys.argv[1:])'"


@pytest.mark.parametrize(
    ("words", "given"),
    [(["--month", "5"], ["--month", "5"]), (["-m", "two words"], ["-m", "two words"]), ([], [])],
)
def test_options_belong_to_the_default_command_and_no_command_is_that_one(words, given):
    result = run(*words, DEFAULT_COMMAND=SHOW)
    assert (result.stdout, result.returncode) == (f"{given}\n", 0)


def test_without_a_default_command_no_command_is_one_line():
    result = run()
    assert result.returncode == 78
    assert messages(result) == ["no command was given: run the image with one, such as `gunicorn`."]


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_what_only_informs_needs_neither_settings_nor_a_database(option):
    result = run(str(Path(sys.executable).with_name("gunicorn")), option, SECRET_KEY="")
    assert result.returncode == 0
    assert "gunicorn" in result.stdout


def test_an_unknown_command_is_one_line_and_127():
    result = run("no-such-program")
    assert result.returncode == 127
    assert messages(result) == ["no such command: no-such-program"]


def test_the_command_takes_the_entrypoints_place_and_gets_its_signals():
    command = [sys.executable, "-m", "chassis.process.entrypoint", "sh", "-c", "echo here; exec sleep 60"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd="/")
    assert b"here\n" in iter(process.stdout.readline, b"")
    process.terminate()
    assert process.wait(5) == -signal.SIGTERM


def test_wrong_settings_stop_the_start_with_every_error_in_one_line():
    result = waits(DATABASE_WAIT="soon", PORT="0", LOG_LEVEL="loud", DRAIN_DELAY="-1")
    assert result.returncode == 78
    (message,) = messages(result)
    assert message.startswith("4 settings are wrong: ")
    assert "started" not in result.stdout


def test_it_starts_when_postgres_answers(address):
    result = waits(DATABASE_URL=address.url)
    assert result.returncode == 0
    assert result.stdout.endswith("started\n")


def test_it_waits_for_a_postgres_that_comes_late(tmp_path):
    port = free_port()
    server = Postgres(tmp_path / "pg", port=port, durable=False)
    with server:
        url = server.create("late").url
    process = subprocess.Popen(
        [sys.executable, "-m", "chassis.process.entrypoint", sys.executable, "-c", "print('started')"],
        env={"PATH": os.environ["PATH"], **SECRET, "DATABASE_URL": url, "DATABASE_WAIT_COMMANDS": "-c"},
        stdout=subprocess.PIPE, text=True, cwd="/",
    )  # fmt: skip
    assert "waiting for Postgres" in process.stdout.readline()
    with server:
        assert process.wait(20) == 0
    assert process.stdout.read().endswith("started\n")


def test_it_gives_up_after_database_wait_with_one_line():
    port = free_port()
    result = waits(DATABASE_URL=f"postgresql://u:p@127.0.0.1:{port}/x", DATABASE_WAIT="0.5")
    assert result.returncode == 69
    last = messages(result)[-1]
    assert f"Postgres at 127.0.0.1:{port} did not answer within 0.5 s (DATABASE_WAIT)" in last
    assert "Connection refused" in last


def test_a_server_that_accepts_and_says_nothing_counts_as_no_answer():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        result = waits(
            DATABASE_URL=f"postgresql://u:p@127.0.0.1:{port}/x",
            DATABASE_WAIT="0.5",
            DATABASE_CONNECT_TIMEOUT="1",
        )
    assert result.returncode == 69


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": "wrong-hunter2"}, "check DATABASE_PASSWORD"),
        ({"name": "nowhere"}, "there is no such database: check DATABASE_NAME"),
        ({"user": "stranger"}, "check DATABASE_PASSWORD"),  # scram hides whether a role exists
    ],
)
def test_what_never_heals_fails_at_once(address, change, said):
    from dataclasses import replace

    started = time.monotonic()
    result = waits(DATABASE_URL=replace(address, **change).url, DATABASE_WAIT="30")
    assert time.monotonic() - started < 10
    assert result.returncode == 69
    (message,) = messages(result)
    assert said in message
    assert "hunter2" not in result.stdout + result.stderr


def test_what_may_heal_is_not_taken_for_permanent():
    for text in (
        "Connection refused",
        "the database system is starting up",
        "too many clients already",
    ):
        assert permanent(text) is None
