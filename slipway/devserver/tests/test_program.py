"""A worker in development gets the arguments that the command line of its compose file ends with."""

import os
import subprocess
import sys

SETTINGS = """
from chassis import settings

class Settings(settings.Settings):
    uses_database = uses_secret_key = False
"""
MAIN = """
from chassis.process import worker

def main(settings, arguments):
    print(arguments, flush=True)
    for number in worker.every(60):
        pass
"""


def test_a_worker_gets_its_arguments(tmp_path):
    package = tmp_path / "services/tick/src/tick"
    package.mkdir(parents=True)
    (package / "settings.py").write_text(SETTINGS)
    (package / "main.py").write_text(MAIN)
    environ = {"PATH": os.environ["PATH"], "SERVICE": "tick", "PYTHONPATH": str(package.parent), "LOG_FORMAT": "text"}
    command = [sys.executable, "-m", "devserver.program", "--queue", "mails"]
    with subprocess.Popen(
        command, cwd=package.parents[1], env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        given = next((line for line in process.stdout if line.startswith("[")), "it ended")
        process.terminate()
        process.communicate(timeout=20)
    assert (given, process.returncode) == ("['--queue', 'mails']\n", 0)
