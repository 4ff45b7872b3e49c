"""Traces, of a service that runs as in production, sent to a receiver that reads real OTLP."""

import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from chassis.observe.traces import origin
from chassis_testing.otlp import Collector
from chassis_testing.running import SERVERS, SOON, TROUBLES, Running, Trouble, serving, wait_for

HERE = Path(__file__).parent
ROUTES = {"fastapi": "/people/{name}", "sanic": "/people/<name:str>"}
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CONTINUED = f"00-{TRACE}-{CALLER}-01"
BEGUN_BY_THE_PROXY = f"00-{TRACE}-{TRACE[16:]}-01"
ALICE = "alice@example.org"


@pytest.fixture
def collector():
    with Collector() as collector:
        yield collector


def whole(collector, name):
    """The trace whose first span has this name, once that has come, which ends last."""
    first = wait_for(lambda: [span for span in collector.spans if span["name"] == name])[0]
    return first, [span for span in collector.spans if span["trace"] == first["trace"] and span is not first]


@pytest.mark.parametrize("server", SERVERS)
def test_a_request_is_one_trace_from_the_caller_through_its_statements_to_the_log(tmp_path, address, collector, server):
    route = ROUTES.get(server, "/people/<name>")
    with serving(tmp_path, address, collector.url, server) as service:
        headers = {"traceparent": CONTINUED, "X-Request-ID": "request-number-7", "X-Forwarded-For": "203.0.113.7"}
        assert service.get(f"/people/{ALICE}?secret=1", **headers)[0] == 200
        first, others = whole(collector, f"GET {route}")
        service.get("/health/ready")
        service.get("/metrics")
    assert (first["trace"], first["parent"], first["kind"], first["failed"]) == (TRACE, CALLER, 2, False)
    assert first["attributes"] == {
        "http.request.method": "GET",
        "http.route": route,
        "http.response.status_code": 200,
        "url.path": f"/people/{ALICE}",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "request.id": "request-number-7",
    }
    assert {"service.name": "traced", "service.version": "v7"}.items() <= first["resource"].items()
    statements = [span for span in others if span["name"] == "SELECT"]
    assert [span["attributes"] for span in statements] == [
        {"db.system.name": "postgresql", "db.operation.name": "SELECT", "db.query.text": text}
        for text in ("SELECT pg_sleep(0.01)", "SELECT %(name)s")
    ]
    assert statements[0]["seconds"] >= 0.01
    assert all(span["parent"] == first["id"] for span in others)
    assert first["begun"] <= statements[0]["begun"] <= statements[1]["begun"] <= first["begun"] + first["seconds"]
    # A connection had to be opened, which took its time.
    assert {span["name"] for span in others} == {"SELECT", "wait for a connection"}
    assert {span["trace"] for span in collector.spans} == {TRACE}  # what is polled has no trace
    lines = [line for line in service.log() if line.get("request_id") == "request-number-7"]
    assert lines
    assert {line["trace_id"] for line in lines} == {TRACE}
    assert not [line for line in service.log() if "trace_id" in line and "request_id" not in line]


@pytest.mark.parametrize("server", SERVERS)
def test_an_exception_is_recorded_with_its_lines(tmp_path, address, collector, server):
    with serving(tmp_path, address, collector.url, server) as service:
        assert service.get("/broken/x")[0] == 500
        first = wait_for(lambda: [span for span in collector.spans if span["kind"] == 2])[0]
    assert first["failed"]
    assert first["attributes"]["error.type"] == "ZeroDivisionError"
    assert first["attributes"]["http.response.status_code"] == 500
    assert first["attributes"]["http.route"].startswith("/broken/")
    (event,) = {event["exception.type"]: event for event in first["events"]}.values()
    assert event["exception.message"] == "no such number"
    assert 'raise ZeroDivisionError("no such number")' in event["exception.stacktrace"]


def test_no_span_has_a_users_data_even_where_postgres_tells_of_it(tmp_path, address, collector):
    with serving(tmp_path, address, collector.url) as service:
        assert service.get(f"/refused/{ALICE}?name={ALICE}")[0] == 500
        first, others = whole(collector, "GET /refused/<name>")
    refused = [span for span in others if span["failed"]]
    assert [span["attributes"]["error.type"] for span in refused] == ["psycopg2.errors.UniqueViolation"]
    assert first["events"][0]["exception.message"] == "23505 people one_name"
    del first["attributes"]["url.path"]
    assert ALICE not in json.dumps([first, *others])


def test_a_statements_comment_has_both_ids_where_postgres_shows_it(tmp_path, address, collector):
    with serving(tmp_path, address, collector.url) as service:
        _, shown = service.get("/commented/x", traceparent=CONTINUED, **{"X-Request-ID": "request-number-8"})
    assert shown.startswith(f"/* request_id=request-number-8 trace_id={TRACE} */ SELECT query")


def test_an_apps_own_spans_are_part_of_the_trace_and_a_file_is_sent(tmp_path, address, collector):
    with serving(tmp_path, address, collector.url) as service:
        assert service.get("/file/x")[1].startswith('"""A service')
        assert service.get("/inner/x")[0] == 200
        first, others = whole(collector, "GET /inner/<name>")
        assert whole(collector, "GET /file/<name>")
        by_name = {span["name"]: span for span in others}
    assert by_name["own"]["parent"] == first["id"]
    assert by_name["SELECT"]["parent"] == by_name["own"]["id"]


def test_a_request_that_this_app_sends_carries_the_trace_on(tmp_path, address, collector):
    with serving(tmp_path, address, collector.url) as called, serving_second(tmp_path, address, collector) as service:
        status, said = service.get(f"/calls/x?url=http://127.0.0.1:{called.port}/inner/y", traceparent=CONTINUED)
        assert status == 200
        first, _ = whole(collector, "GET /calls/<name>")
        seen = wait_for(lambda: len(s := [s for s in collector.spans if s["name"] == "GET /inner/<name>"]) == 2 and s)
    assert {(span["trace"], span["parent"]) for span in seen} == {(TRACE, first["id"])}
    assert re.fullmatch(f"00-{TRACE}-{first['id']}-0[13]", said)


@contextmanager
def serving_second(folder, address, collector):
    (second := folder / "second").mkdir()
    with serving(second, address, collector.url) as service:
        yield service


@pytest.mark.parametrize(
    ("variables", "sent", "recorded"),
    [
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, "", False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, CONTINUED, True),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
            BEGUN_BY_THE_PROXY,
            False,
        ),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, f"00-{TRACE}-{CALLER}-00", False),
        (
            {"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "team=a,service.version=9"},
            BEGUN_BY_THE_PROXY,
            True,
        ),
        ({"OTEL_SDK_DISABLED": "true"}, CONTINUED, False),
    ],
)
def test_the_standard_variables_decide(tmp_path, address, collector, variables, sent, recorded):
    with serving(tmp_path, address, collector.url, **variables) as service:
        assert service.get("/inner/x", traceparent=sent)[0] == 200
    assert bool(collector.spans) == recorded  # what was recorded is sent before it ends
    if "OTEL_SERVICE_NAME" in variables:
        resource = collector.spans[0]["resource"]
        assert (resource["service.name"], resource["team"], resource["service.version"]) == ("shop", "a", "9")
    if sent == BEGUN_BY_THE_PROXY and recorded:
        first, _ = whole(collector, "GET /inner/<name>")
        assert (first["trace"], first["parent"]) == (TRACE, "")


def test_what_a_header_says_counts_if_it_is_well_formed():
    assert origin(BEGUN_BY_THE_PROXY, "") == (None, int(TRACE, 16))
    parent, _ = origin(CONTINUED, "vendor=1")
    assert (parent.trace_id, parent.span_id, parent.trace_state["vendor"]) == (int(TRACE, 16), int(CALLER, 16), "1")
    for wrong in ("", "x", f"ff-{TRACE}-{CALLER}-01", f"00-{'0' * 32}-{CALLER}-01", f"00-{TRACE}-{'0' * 16}-01",
                  CONTINUED.upper(), f"{CONTINUED}, {CONTINUED}", f"{CONTINUED}\n"):  # fmt: skip
        assert origin(wrong, "") == (None, 0)


def test_headers_for_the_collector_may_be_in_a_file(tmp_path, address, collector):
    (tmp_path / "headers").write_text("authorization=Basic%20c2VjcmV0\n")
    with serving(
        tmp_path, address, collector.url, OTEL_EXPORTER_OTLP_HEADERS_FILE=str(tmp_path / "headers")
    ) as service:
        service.get("/inner/x")
        whole(collector, "GET /inner/<name>")
    assert {key.lower(): value for key, value in collector.headers[0].items()}["authorization"] == "Basic c2VjcmV0"


def test_each_round_of_a_worker_is_a_trace_and_the_last_one_has_its_exception(tmp_path, address, collector):
    worker = Running(tmp_path, address, collector.url, "chassis.process.worker")
    assert worker.process.wait(SOON) == 1
    worker.stop()
    rounds = [span for span in collector.spans if span["name"] == "round"]
    assert [span["failed"] for span in rounds] == [False, False, True]
    assert len({span["trace"] for span in rounds}) == 3
    assert rounds[2]["events"][0]["exception.message"] == "no such month"
    asked = [
        span for span in collector.spans if span["name"] == "SELECT" and "round" in span["attributes"]["db.query.text"]
    ]
    assert [span["parent"] for span in asked] == [span["id"] for span in rounds]
    (line,) = [line for line in worker.log() if line["message"] == "traced failed"]
    assert line["trace_id"] == rounds[2]["trace"]


def test_a_scripts_run_is_a_trace_with_its_exception(tmp_path, address, collector):
    script = Running(tmp_path, address, collector.url, "chassis.process.worker", "--month")
    assert script.process.wait(SOON) == 1
    script.stop()
    (run,) = [span for span in collector.spans if span["name"] == "run"]
    assert run["failed"]
    assert run["attributes"]["error.type"] == "LookupError"
    (asked,) = [span for span in collector.spans if span["name"] == "SELECT"]
    assert asked["parent"] == run["id"]


@pytest.mark.alone
@pytest.mark.parametrize("server", ["gunicorn", "uwsgi", "fastapi"])
@pytest.mark.parametrize("trouble", ["is away", *TROUBLES])
def test_a_collector_in_trouble_delays_no_request_and_no_stop(tmp_path, address, trouble, server):
    queue = {"OTEL_BSP_MAX_QUEUE_SIZE": "20", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10"}
    with Trouble(trouble) as collector, serving(tmp_path, address, collector.url, server, **queue) as service:
        slowest, stop = service.delays("/people/x", 200, requests=40)  # twice what the queue takes
    assert slowest < 1
    assert stop < 4


def test_off_nothing_of_it_is_imported(tmp_path, address):
    program = (
        "import sys, traced; traced.create_app(); print(sorted(m for m in sys.modules if 'opentelemetry.sdk' in m))"
    )
    environ = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "SERVICE": "traced",
        "APP_ENV": "test",
        "DATABASE_URL": address.url,
    }
    for endpoint, loaded in (("", False), ("http://127.0.0.1:1", True)):
        command = [sys.executable, "-c", program]
        run = subprocess.run(
            command,
            env={**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert (run.stdout.strip() != "[]") == loaded, run.stderr


@pytest.mark.parametrize(
    ("endpoint", "hidden", "said"),
    [
        ("collector:4318", "", "OTEL_EXPORTER_OTLP_ENDPOINT must look like http://collector:4318"),
        ("http://collector:4318", "opentelemetry", "build it with EXTRAS=traces"),
    ],
)
def test_what_can_not_work_is_one_line_that_says_what_to_do(tmp_path, address, endpoint, hidden, said):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util; find = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name == {hidden!r} else find(name, *rest)"
    )
    path = f"{tmp_path}:{HERE}"
    service = Running(tmp_path, address, endpoint, *SERVERS["gunicorn"], PYTHONPATH=path)
    assert service.process.wait(SOON) == 78
    service.stop()
    (line,) = service.log()
    assert said in line["message"]
