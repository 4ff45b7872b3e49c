"""Starting: waits for a late Postgres, names an absent one, and fails at once on errors that never heal."""

import json
import re

import pytest

from slipway.proofs.faults.injection import status
from slipway.proofs.harness import wait_until

pytestmark = pytest.mark.containers


def start(stack, **environment):
    """`docker compose run` of the app alone, without starting its dependencies."""
    options = [option for name, value in environment.items() for option in ("--env", f"{name}={value}")]
    return stack.compose("run", "--rm", "--no-deps", "-T", *options, "web-a", "gunicorn", check=False, timeout=60)


def last_line(run):
    return json.loads(run.stdout.strip().splitlines()[-1])["message"]


def test_the_app_waits_for_a_late_postgres_and_starts_when_it_is_there(faulty):
    faulty.compose("stop", "web-a", "db")
    faulty.compose("up", "--detach", "--no-deps", "web-a")
    wait_until("the word that it waits", lambda: "waiting for Postgres" in faulty.log("web-a"))
    faulty.compose("start", "db")
    wait_until("ready", lambda: status(faulty.url("web-a", "/health/ready")) == 200, 60)
    assert faulty.container("web-a")["RestartCount"] == 0


def test_it_gives_up_after_database_wait_with_one_line(faulty):
    run = start(faulty, DATABASE_HOST="nowhere.invalid", DATABASE_WAIT="0.5")
    assert run.returncode == 69
    assert "nowhere.invalid:5432 did not answer within 0.5 s (DATABASE_WAIT)" in last_line(run)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"DATABASE_PASSWORD_FILE": "", "DATABASE_PASSWORD": "wrong-but-not-a-placeholder"}, "check DATABASE_PASSWORD"),
        ({"DATABASE_NAME": "nowhere"}, "there is no such database: check DATABASE_NAME"),
    ],
)
def test_what_never_heals_fails_at_once(faulty, environment, said):
    run = start(faulty, **environment, DATABASE_WAIT="600")
    assert run.returncode == 69
    assert said in last_line(run)
    assert "wrong-but" not in run.stdout


def test_wrong_settings_stop_the_start_with_every_error_in_one_line(faulty):
    run = start(faulty, PORT="eighty", LOG_LEVEL="LOUD", WEB_THREADS="0")
    assert run.returncode == 78
    assert last_line(run).startswith("3 settings are wrong: ")


def test_placeholders_are_refused_in_production(faulty):
    run = start(faulty, SECRET_KEY_FILE="", SECRET_KEY="change-me-change-me-change-me-change-me")
    assert run.returncode == 78
    assert "SECRET_KEY is a placeholder, which production refuses" in last_line(run)


def test_options_belong_to_the_server(faulty):
    words = ("web-a", "--threads", "3", "--print-config")
    run = faulty.compose("run", "--rm", "--no-deps", "-T", *words)
    assert re.search(r"^threads += 3$", run.stdout, re.MULTILINE)


def test_any_other_command_starts_without_a_database_and_keeps_its_exit_code(faulty):
    run = faulty.compose(
        "run", "--rm", "--no-deps", "-T", "--env", "DATABASE_HOST=nowhere.invalid",
        "web-a", "python", "-c", "print('hello'); raise SystemExit(7)", check=False,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (7, "hello\n")
