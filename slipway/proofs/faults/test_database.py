"""Postgres killed, restarted, frozen, cut off, full: bounded errors, true answers, and recovery without help."""

import subprocess
import time
from contextlib import contextmanager

import httpx
import pytest

from slipway.proofs.faults.injection import (
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
from slipway.proofs.harness import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.alone]

FLIP, RECOVER = 3.0, 2.0  # seconds, the promise
BOUND = 6.0  # seconds within which a request that hits the fault is answered
SETTLED = 7.0  # seconds until a replica that alone is cut off is out of rotation and its last requests have ended
ALONE = 5  # requests that a replica may lose before it is out of rotation: one for each that the other is serving


@pytest.fixture
def stack(faulty):
    """Healthy before each test, and healthy afterwards without help."""
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
    """The engine is the containers' resolver, and is slow while it is busy with images or restarts."""
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


def black_hole(stack, service, action, *chain):
    """Drops packets to Postgres in the service's network, from -I until -D."""
    rule = [action, *chain, "-p", "tcp", "--dport", "5432", "-j", "DROP"]
    enter = ["nsenter", "--target", str(stack.pid(service)), "--net", "iptables", "--wait", *rule]
    subprocess.run([*as_root(), *enter], check=True)


def test_postgres_cut_off_by_a_black_hole(stack, figures):
    chain = ("INPUT", "!", "-i", "lo")
    with Load(stack.url("web-b", "/probe/rows")) as load:
        flip, recover = fault_and_recovery(
            stack,
            lambda: black_hole(stack, "db", "-I", *chain),
            lambda: (wait_for_errors(load), black_hole(stack, "db", "-D", *chain)),
        )
    check(load, flip, recover)
    figures("Postgres behind a black hole", load, flip=flip, recover=recover)


@contextmanager
def stopped(stack):
    stack.compose("stop", "db")
    yield
    stack.compose("start", "db")


@contextmanager
def frozen(stack):
    container = stack.container("db")["Id"]
    stack.run("docker", "pause", container)
    yield
    stack.run("docker", "unpause", container)


@pytest.mark.parametrize("away", [stopped, frozen], ids=lambda fault: fault.__name__)
def test_while_postgres_is_away_what_needs_none_is_served_and_the_rest_is_503_at_once(stack, away, figures):
    """Through the proxy. Pages are served at once, and still are when thirty rows a second are requested."""
    trust = stack.authority()
    few, many = (Load(site(stack, "/probe/rows"), threads=n, pause=1.0, certificate=trust) for n in (3, 30))
    pages = [Load(site(stack, path), threads=1, pause=0.1, certificate=trust) for path in ("/", "/version")]
    with few, pages[0], pages[1]:
        wait_until("rows", lambda: few.count(200) > 5)
        begun = time.monotonic()
        with away(stack):
            wait_until("a refusal at once", lambda: few.answers[-1][1] == 503 and few.answers[-1][2] < 0.5, 20)
            with many:
                wait_until("many refusals", lambda: many.count(503) > 60, 20)
            ended = time.monotonic()
        wait_until("rows again", lambda: few.answers[-1][1] == 200, 30)
    shown = [each for page in pages for each in page.answers if begun < each[0] < ended]
    slowest = [max(seconds for _, _, seconds in answers) for answers in (shown, many.answers)]
    figures(f"Postgres {away.__name__}, seconds to a page and to a 503", many, page=slowest[0], refusal=slowest[1])
    assert slowest[0] < 1
    assert slowest[1] < 2
    assert {code for _, code, _ in shown} == {200}
    assert {code for _, code, _ in many.answers} == {503}


def site(stack, path):
    return f"https://localhost:{stack.environment['HTTPS_PORT']}{path}"


def test_a_replica_that_alone_is_cut_off_is_taken_out(stack, figures):
    with Load(site(stack, "/probe/rows"), certificate=stack.authority()) as load:
        wait_until("rows", lambda: load.count(200) > 20)
        begun = time.monotonic()
        black_hole(stack, "web-b", "-I", "OUTPUT")
        try:
            wait_until("a while of it", lambda: load.answers[-1][0] > begun + SETTLED + 5, 60)
            assert status(stack.url("web-b", "/health/live")) == 200
            assert status(stack.url("web-b", "/health/ready?for=traffic")) == 503
        finally:
            black_hole(stack, "web-b", "-D", "OUTPUT")
    figures("one replica cut off", load)
    assert {code for when, code, _ in load.answers if when > begun + SETTLED} == {200}
    assert load.errors <= ALONE


def wait_for_errors(load):
    """Keeps the fault until requests have hit it."""
    wait_until("requests that met the fault", lambda: load.errors > 4, 30)


def test_a_slow_statement_is_cancelled_and_answered_503(stack):
    answer = httpx.get(stack.url("web-a", "/probe/sleep-in-sql"), trust_env=False, timeout=20)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"


def test_connections_exhausted(stack, figures):
    def refuse():
        """Refuses every new connection, and closes those that the app had."""
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
    with faulty_production(
        probed_checkout, "slipway/proofs/faults/faults.yaml:slipway/proofs/faults/small-disk.yaml"
    ) as stack:
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
