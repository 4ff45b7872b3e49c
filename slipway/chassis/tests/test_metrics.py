"""The metrics that docs/metrics.md asks for: of real servers, and of a real Postgres."""

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy
from sqlalchemy import text

from chassis.db import engine
from chassis.observe import metrics
from chassis.web import postgres
from slipway.chassis.tests.test_serving import COMMANDS, Service, wait_for


@pytest.fixture(params=COMMANDS)
def service(tmp_path, request) -> Iterator[Service]:
    given = {"WEB_THREADS": "2", "REQUEST_TIMEOUT": "5", "REVISION": "abc"}
    service = Service(tmp_path, *COMMANDS[request.param], **given)
    service.name, service.threads = request.param, 0 if request.param == "asgi" else 4
    yield service
    service.stop()


def figure(service: Service, name: str) -> float:
    """The sum over all labels, however often `name` says some of them."""
    found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", service.get("/metrics").decode(), re.MULTILINE)
    return sum(map(float, found))


def test_a_service_tells_its_release_its_start_its_drain_and_what_it_is_busy_with(service):
    text = service.get("/metrics").decode()
    assert re.search(r'build_info{.*name="served".*revision="abc".*} 1.0', text)
    assert figure(service, "started_timestamp_seconds") > 1.7e9
    assert "\ndraining 0.0" in text
    with service.ask("GET /hangs"):
        wait_for(lambda: figure(service, "http_requests_in_flight") == 1)
        wait_for(lambda: figure(service, "http_threads") == service.threads)


def test_each_request_counts_by_its_status_class(service):
    for path in ("/pid", "/pid", "/nowhere"):
        service.get(path)
    if service.threads:
        assert figure(service, r'http_request_seconds_count{class="2xx",route="/pid"}') == 2
        assert figure(service, r'http_request_seconds_count{class="4xx",route="none"}') == 1
    waits = figure(service, "http_thread_wait_seconds_count")
    assert waits > 3 if service.name == "gunicorn" else waits == 0  # uWSGI's queue is its own


def test_a_worker_that_dies_is_counted_and_a_stop_is_not(service):
    assert figure(service, "worker_ends_total") == 0
    os.kill(int(service.get("/pid")), 9)
    wait_for(lambda: figure(service, "worker_ends_total") == 1)


@pytest.fixture
def measured(settings) -> Iterator[sqlalchemy.Engine]:
    created = engine.create_engine(replace(settings, web_threads=1, database_pool_timeout=0.2))
    postgres.measure(created)
    yield created
    created.dispose()


@pytest.fixture
def aside(settings) -> Iterator[sqlalchemy.Engine]:
    created = engine.create_engine(settings)
    yield created
    created.dispose()


def errors() -> dict[str, float]:
    (family,) = metrics.DATABASE_ERRORS.collect()
    return {each.labels["kind"]: each.value for each in family.samples if each.name.endswith("_total")}


STATEMENTS = {
    "statement": "SELECT * FROM nowhere",
    "constraint": "SELECT (-1)::information_schema.cardinal_number",
    "statement_timeout": "SET LOCAL statement_timeout = 10; SELECT pg_sleep(5)",
    "lock_timeout": "SET LOCAL lock_timeout = 10; SELECT pg_advisory_xact_lock(18)",
    "read_only": "SET TRANSACTION READ ONLY; CREATE SCHEMA new",
    "connection": "SELECT pg_terminate_backend(pg_backend_pid())",
    "other": "SELECT 1 / 0",
}


@pytest.mark.parametrize("kind", STATEMENTS)
def test_an_error_of_postgres_counts_as_its_kind(measured, aside, kind):
    before = errors().get(kind, 0)
    with aside.connect() as holder, measured.connect() as connection:
        holder.execute(text("SELECT pg_advisory_xact_lock(18)"))
        with pytest.raises(sqlalchemy.exc.DBAPIError):
            connection.execute(text(STATEMENTS[kind]))
    assert errors()[kind] == before + 1


def test_a_pool_that_is_exhausted_is_seen_while_it_lasts_and_counts_as_an_error(measured):
    pool, before = postgres.pool_of(measured), errors().get("pool_timeout", 0)
    with measured.connect(), ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(measured.connect)
        wait_for(lambda: len(pool.waiting) == 1 or waiting.done())
        assert isinstance(waiting.exception(), sqlalchemy.exc.TimeoutError)
        assert pool.checkedout() == pool.size() == 1
    assert errors()["pool_timeout"] == before + 1
    assert not pool.waiting
