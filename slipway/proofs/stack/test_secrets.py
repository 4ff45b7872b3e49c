"""Secrets change while the app serves, and no client notices."""

import re
import subprocess
from contextlib import contextmanager

import pytest

from slipway.proofs.faults.injection import Load
from slipway.proofs.harness import wait_until

pytestmark = pytest.mark.containers

PASSWORDS = ["web_password", "web_owner_password", "postgres_password"]


@pytest.fixture
def stack(probed):
    return probed


def secret(stack, name):
    return (stack.directory / "secrets" / name).read_text().split()


def rotate(stack, name):
    return stack.make("rotate-secret", f"s={name}")


def token(page):
    return re.search(r'name="csrf_token" value="([^"]*)"', page.text)[1]


def test_a_new_session_key_signs_and_the_former_one_still_reads(stack):
    with stack.client() as client:
        form = client.get("/probe/form")
        before = secret(stack, "secret_key")
        rotate(stack, "secret_key")
        assert secret(stack, "secret_key")[1] == before[0]
        # The form was opened before the rotation, and is sent after it.
        sent = client.post(
            "/probe/form",
            data={"title": "Across a rotation", "csrf_token": token(form)},
            headers={"Referer": str(form.url)},
        )
        assert (sent.status_code, sent.text) == (200, "accepted")


def test_a_new_status_token_opens_the_status_and_the_old_one_no_longer_does(stack):
    (old,) = secret(stack, "status_token")
    rotate(stack, "status_token")
    (new,) = secret(stack, "status_token")
    with stack.client() as client:

        def code(token):
            return client.get("/status", headers={"Authorization": f"Bearer {token}"}).status_code

        wait_until("every worker knows the new one", lambda: {code(new) for _ in range(8)} == {200})
        assert {code(old) for _ in range(8)} == {401}
        names = client.get("/status", headers={"Authorization": f"Bearer {new}"}).json()["replicas"]
    assert [(each["name"], each["problem"]) for each in names] == [("web-a", None), ("web-b", None)]


@pytest.mark.parametrize("name", PASSWORDS)
def test_a_password_is_changed_while_serving_and_the_old_one_is_refused(stack, name):
    (old,) = secret(stack, name)
    role = "postgres" if name == "postgres_password" else name.removesuffix("_password")
    certificate = stack.authority()
    url = f"https://localhost:{stack.environment['HTTPS_PORT']}/probe/rows"
    with Load(url, certificate=certificate) as load, logging_in(stack) as logins:
        rotate(stack, name)
        seen = len(load.answers)
        wait_until("load after it", lambda: len(load.answers) > seen + 50)
    assert load.errors == 0
    good, bad = logins
    assert good > 20
    assert bad == 0
    (new,) = secret(stack, name)
    assert new != old
    run = stack.compose(
        "exec", "-T", "-e", f"PGPASSWORD={old}", "db", "psql", "-U", role, "-h", "127.0.0.1", "-c", "SELECT 1", "web",
        check=False,
    )  # fmt: skip
    assert "password authentication failed" in run.stderr


# Logs in repeatedly, as the app does, until its input ends; prints the number of successes and of failures.
LOGIN = """
import select, sys
from sqlalchemy import text
from chassis.db.engine import create_engine
from chassis.settings import of_service
engine, good, bad = create_engine(of_service().load()), 0, 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        good += 1
    except Exception:
        bad += 1
    engine.dispose()
print(good, bad)
"""


@contextmanager
def logging_in(stack):
    process = subprocess.Popen(
        ["docker", "compose", "exec", "-T", "web-a", "python", "-c", LOGIN],
        cwd=stack.directory, env=stack.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    yield (result := [])
    out, _ = process.communicate("", timeout=60)
    result += map(int, out.split())


def test_the_superusers_rotation_that_ended_once_postgres_had_its_password_is_completed(stack):
    prepared = "superuser-of-thirty-two-characters-and-more"
    (stack.directory / "secrets/.postgres_password.next").write_text(prepared)
    stack.sql(f"ALTER ROLE postgres PASSWORD '{prepared}'")
    rotate(stack, "postgres_password")
    assert secret(stack, "postgres_password") == [prepared]
    assert stack.sql("SELECT 1") == "1"


def test_no_password_gets_into_the_log_be_its_statement_refused_slow_or_killed(stack):
    """Another session has an open change of the role, for longer than a statement may take without being logged."""

    def rotation(end):
        with held(stack, "web") as holder:
            process = subprocess.Popen(
                ["make", "rotate-secret", "s=web_password"],
                cwd=stack.directory, env=stack.environment, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            slow = "SELECT pid FROM pg_locks WHERE NOT granted AND waitstart < clock_timestamp() - interval '1.1 s'"
            pid = wait_until("the rotation waits", lambda: stack.sql(slow))
            end(holder, pid)
            return process.communicate(timeout=60)[1]

    assert "tuple concurrently updated" in rotation(lambda holder, pid: say(holder, "COMMIT;"))
    assert "did not take" in rotation(lambda _, pid: stack.compose("exec", "-T", "db", "bash", "-c", f"kill -9 {pid}"))
    wait_until("Postgres", stack.postgres_answers)
    prepared = (stack.directory / "secrets/.web_password.next").read_text().strip()
    assert rotation(lambda holder, pid: say(holder, "ROLLBACK;")) == ""
    assert secret(stack, "web_password") == [prepared]
    log = stack.compose("logs", "--no-log-prefix", "db").stdout
    assert "was terminated by signal 9" in log
    assert prepared not in log
    with stack.client() as client:
        wait_until("the app", lambda: client.get("/health/ready").status_code == 200)


@contextmanager
def held(stack, role):
    """A session of the superuser's that has changed the role, and not committed."""
    shell = "PGPASSWORD=$(cat /run/secrets/postgres_password) exec psql -XqAt -U postgres -h 127.0.0.1"
    process = subprocess.Popen(
        ["docker", "compose", "exec", "-T", "db", "sh", "-c", shell],
        cwd=stack.directory, env=stack.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    say(process, f"BEGIN; ALTER ROLE {role} CONNECTION LIMIT -1; SELECT 'held';")
    assert process.stdout.readline() == "held\n"
    yield process
    process.communicate(timeout=60)


def say(process, statement):
    process.stdin.write(f"{statement}\n")
    process.stdin.flush()


def test_an_unknown_secret_is_one_line_that_names_the_known(stack):
    run = stack.make("rotate-secret", "s=nonsense", check=False)
    assert run.returncode != 0
    known = "monitor_password, postgres_password, secret_key, status_token, web_owner_password, web_password"
    assert f"s=nonsense must be one of {known}." in run.stderr


def test_the_database_still_takes_rows_and_migrations_with_the_new_passwords(stack):
    stack.compose("run", "--rm", "-T", "migrate")
    with stack.client() as client:
        assert client.post("/probe/rows", json={"title": "after all"}).status_code == 201
