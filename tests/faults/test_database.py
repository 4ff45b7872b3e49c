"""Postgres killed, restarted, frozen, cut off, full: bounded errors, the truth, and no hand needed."""

import subprocess

import httpx
import pytest

from faults.injection import (
    Load,
    as_root,
    fault_and_recovery,
    faulty_production,
    fill_the_disk,
    free_the_disk,
    kill,
    silent_resolver,
    status,
)
from harness import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.alone]

FLIP, RECOVER = 3.0, 2.0  # seconds, the promise
BOUND = 6.0  # seconds within which a request that meets the fault is answered


@pytest.fixture
def stack(faulty):
    """Healthy before; and healthy afterwards with nobody's help."""
    healthy(faulty)
    yield faulty
    healthy(faulty)


def healthy(stack):
    for service in ("web-a", "web-b"):
        wait_until(f"{service} ready", lambda s=service: status(stack.url(s, "/health/ready")) == 200, 60)


def check(load, flip, recover):
    assert flip < FLIP
    assert recover < RECOVER
    assert load.slowest < BOUND
    assert load.broken == []
    assert {code for _, code, _ in load.answers} <= {200, 201, 503}


def acknowledged(load):
    return load.count(201)


def test_postgres_killed(stack, figures):
    before = int(stack.sql("SELECT count(*) FROM probe"))
    with Load(stack.url("web-b", "/probe/rows"), "POST") as load:
        wait_until("some writes", lambda: acknowledged(load) > 20)
        flip, recover = fault_and_recovery(stack, lambda: kill(stack.pid("db")), lambda: None)
        wait_until("writes again", lambda: load.answers[-1][1] == 201)
    lost = acknowledged(load) - (int(stack.sql("SELECT count(*) FROM probe")) - before)
    assert lost <= 0  # a write whose answer was cut off may be there as well
    check(load, flip, recover)
    figures("Postgres killed", load, flip=flip, recover=recover, rows_lost=max(lost, 0))


def test_postgres_stopped_for_a_while(stack, figures):
    with Load(stack.url("web-b", "/probe/rows")) as load:
        flip, recover = fault_and_recovery(
            stack, lambda: stack.compose("stop", "db"), lambda: stack.compose("start", "db")
        )
    check(load, flip, recover)
    figures("Postgres stopped, then started", load, flip=flip, recover=recover)


def test_a_restart_while_idle_is_no_error(stack, figures):
    url = stack.url("web-a", "/probe/rows")
    for _ in range(8):
        assert status(url) == 200
    stack.compose("restart", "db")
    wait_until("Postgres answers", stack.postgres_answers)
    answers = [status(url) for _ in range(12)]
    assert answers == [200] * 12
    figures("restart while idle, 12 requests after it", requests=12, errors=0)


def test_killed_backends_are_no_error_for_the_next_request(stack):
    url = stack.url("web-a", "/probe/rows")
    for _ in range(8):
        status(url)
    stack.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'web'")
    assert [status(url) for _ in range(12)] == [200] * 12


def test_new_connections_do_without_a_resolver_that_says_nothing(stack):
    """The engine is the containers' resolver, and takes its time while it is busy with images or starts again."""
    rows = stack.url("web-b", "/probe/rows")
    assert status(rows) == 200
    with silent_resolver(stack, "web-b"):
        for _ in range(3):
            stack.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'web'")
            assert {status(rows) for _ in range(8)} == {200}


def test_postgres_frozen(stack, figures):
    container = stack.container("db")["Id"]
    with Load(stack.url("web-b", "/probe/rows")) as load:
        flip, recover = fault_and_recovery(
            stack,
            lambda: stack.run("docker", "pause", container),
            lambda: (wait_for_errors(load), stack.run("docker", "unpause", container)),
        )
    check(load, flip, recover)
    figures("Postgres frozen", load, flip=flip, recover=recover)


def test_postgres_cut_off_by_a_black_hole(stack, figures):
    drop = ["-p", "tcp", "--dport", "5432", "!", "-i", "lo", "-j", "DROP"]

    def table(action):
        enter = ["nsenter", "--target", str(stack.pid("db")), "--net", "iptables", "--wait", action, "INPUT", *drop]
        subprocess.run([*as_root(), *enter], check=True)

    with Load(stack.url("web-b", "/probe/rows")) as load:
        flip, recover = fault_and_recovery(stack, lambda: table("-I"), lambda: (wait_for_errors(load), table("-D")))
    check(load, flip, recover)
    figures("Postgres behind a black hole", load, flip=flip, recover=recover)


def wait_for_errors(load):
    """The fault lasts until requests have met it."""
    wait_until("requests that met the fault", lambda: load.errors > 4, 30)


def test_a_slow_statement_is_cancelled_and_answered_503(stack):
    answer = httpx.get(stack.url("web-a", "/probe/sleep-in-sql"), trust_env=False, timeout=20)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"


def test_connections_exhausted(stack, figures):
    def refuse():
        """Every new connection is one too many, and those that the app had are gone."""
        stack.sql("ALTER ROLE web CONNECTION LIMIT 0")
        stack.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'web'")

    def admit():
        wait_for_errors(load)
        stack.sql("ALTER ROLE web CONNECTION LIMIT -1")

    with Load(stack.url("web-b", "/probe/rows")) as load:
        flip, recover = fault_and_recovery(stack, refuse, admit)
    check(load, flip, recover)
    figures("connections exhausted", load, flip=flip, recover=recover)


def test_a_full_disk_is_503_for_writes_and_nothing_for_reads(probed_checkout, figures):
    with faulty_production(probed_checkout, "tests/faults/faults.yaml:tests/faults/small-disk.yaml") as stack:
        with Load(stack.url("web-a", "/probe/rows"), "POST") as load:
            wait_until("some writes", lambda: acknowledged(load) > 20)
            fill_the_disk(stack)
            wait_until("refused writes", lambda: load.count(503) > 0, 60)
            assert status(stack.url("web-a", "/probe/rows")) == 200
            free_the_disk(stack)
            wait_until("writes again", lambda: load.answers[-1][1] == 201, 30)
        assert {code for _, code, _ in load.answers} <= {201, 503}
        lost = acknowledged(load) - int(stack.sql("SELECT count(*) FROM probe"))
        assert lost <= 0
        figures("disk full", load, rows_lost=max(lost, 0))
