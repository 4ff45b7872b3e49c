"""The helper for plain programs, in a process that gets real signals, and the command that runs a service's main.py."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import pytest

from slipway.chassis.tests.test_serving import wait_for

PROGRAM = """
import time
from chassis.process import worker
try:
    with worker.until_signal() as stop:
        print("working", flush=True)
        while not stop.wait({pause}):
            {work}
finally:
    print("cleaned up", flush=True)
"""


def start(pause: float = 60, work: str = "pass") -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(pause=pause, work=work)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "working\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_wait_and_the_program_cleans_up_and_exits_0(number):
    process = start()
    process.send_signal(number)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert f"{number.name}: stopping" in out
    assert out.endswith("cleaned up\n")


def test_the_work_at_hand_is_finished_first():
    process = start(0, "print('begun', flush=True); time.sleep(0.5); print('done', flush=True)")
    assert process.stdout.readline() == "begun\n"
    process.terminate()
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "done\ncleaned up" in out


def test_a_second_signal_ends_it_at_once_and_still_cleans_up():
    process = start(0, "print('begun', flush=True); time.sleep(60)")
    assert process.stdout.readline() == "begun\n"
    process.terminate()
    assert "SIGTERM: stopping" in process.stdout.readline()
    process.terminate()
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM
    assert out.endswith("cleaned up\n")


def test_a_worker_logs_as_its_settings_say():
    work = """
import logging
from chassis.observe import logs
from chassis.process import worker
logs.configure("WARNING", "text")
next(worker.every(1))
logging.warning("grave")
logging.info("light")
"""
    run = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, timeout=20, check=True)
    assert "WARNING root: grave" in run.stdout
    assert "light" not in run.stdout


MAIN = """
import sys
import time
import urllib.request
from contextlib import suppress

def main(settings, arguments):
    print(settings.log_level, arguments, flush=True)
    {end}
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [("pass", 0), ("return 3", 3), ("sys.exit(4)", 4), ("raise LookupError('no such month')", 1)],
)
def test_main_gets_settings_and_arguments_and_its_exit_code_comes_through(tmp_path, end, code):
    package = tmp_path / "report"
    package.mkdir()
    (package / "settings.py").write_text(SETTINGS)
    (package / "main.py").write_text(MAIN.format(end=end))
    environ = {"PATH": os.environ["PATH"], "SERVICE": "report", "PYTHONPATH": str(tmp_path), "LOG_LEVEL": "WARNING"}
    command = [sys.executable, "-m", "chassis.process.worker", "--month", "5"]
    run = subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, timeout=20, check=False)
    assert run.returncode == code, run.stderr
    assert run.stdout.startswith("WARNING ['--month', '5']\n")
    assert ("LookupError: no such month" in run.stdout) == (code == 1)


SETTINGS = """
from chassis import settings

class Settings(settings.Settings):
    uses_database = uses_secret_key = False
"""


def test_the_rounds_of_a_worker_are_counted_on_a_port_of_its_own_in_production_alone(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "rounder").mkdir()
    (tmp_path / "rounder/__init__.py").touch()
    (tmp_path / "rounder/settings.py").write_text(
        "from chassis import settings as s\nclass Settings(s.Settings):\n    uses_database = uses_secret_key = False\n"
    )
    (tmp_path / "rounder/main.py").write_text(
        "from chassis.process import worker\n"
        "def main(settings, arguments):\n    for number in worker.every(0.1, round=5):\n        pass\n"
    )
    environment = {"SERVICE": "rounder", "PORT": str(port), "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-m", "chassis.process.worker"], env=os.environ | environment)
    try:
        wait_for(lambda: figure(port, "worker_rounds_total") > 1)
        assert figure(port, "worker_round_seconds_count") >= 2
        assert 0 < figure(port, "worker_due_timestamp_seconds") - time.time() < 6
        assert figure(port, "started_timestamp_seconds") < time.time()
        said = subprocess.check_output(
            [sys.executable, "-m", "chassis.server.control", "stacks"], env=os.environ | environment, text=True
        )
        assert f"rounder, process {process.pid}: 2 stacks are in the log\n" in said
    finally:
        process.terminate()
        process.wait(10)


def figure(port: int, name: str) -> float:
    with suppress(OSError):
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
        return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])
    return 0.0
