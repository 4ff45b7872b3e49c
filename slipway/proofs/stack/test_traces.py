"""Traces in production: from the proxy through the app and its statements to a collector, by settings in .env alone."""

import json
import re
import secrets
import time

import pytest

from slipway.proofs.harness import PROXIES, ROOT, Stack, copy_tree, ports, started, unique, wait_until, with_probe

pytestmark = pytest.mark.containers

SETTINGS = """
EXTRAS=traces
OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318
OTEL_BSP_SCHEDULE_DELAY=100
OTEL_RESOURCE_ATTRIBUTES=team=shop
"""


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    stack = Stack(
        with_probe(copy_tree(tmp_path_factory.mktemp("traced"))),
        unique("traced"),
        COMPOSE_FILE=f"compose.yaml:{ROOT}/slipway/proofs/stack/traces.yaml",
        **ports(),
    )
    stack.make("init")
    with (stack.directory / ".env").open("a") as file:
        file.write(SETTINGS)
    with started(stack):
        yield stack


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_request_is_one_trace_from_the_proxy_through_its_statements_to_every_log(traced, proxy):
    traced.environment["PROXY"] = proxy
    traced.compose("up", "--build", "--detach", "--wait", "--remove-orphans")
    sent, of_client = secrets.token_hex(8), secrets.token_hex(16)
    with traced.client() as client:
        assert client.get("/probe/rows", headers={"X-Request-ID": f"{sent}-new"}).status_code == 200
        headers = {"X-Request-ID": f"{sent}-old", "traceparent": f"00-{of_client}-{secrets.token_hex(8)}-01"}
        assert client.get("/probe/rows", headers=headers).status_code == 200
        forged = {"X-Request-ID": f"{sent}-odd", "traceparent": '00-"}-1-1'}
        assert client.get("/probe/rows", headers=forged).status_code == 200
    traces = {}
    for name in ("new", "old", "odd"):
        first = wait_until("the span", lambda: of_request(traced, f"{sent}-{name}"))  # noqa: B023 - called at once
        traces[name] = first["trace"]
        assert first["parent"] == ""
        assert first["resource"]["team"] == "shop"
        children = [span["name"] for span in spans(traced) if span["parent"] == first["id"]]
        assert {"SELECT"} <= set(children)
        for service in ("proxy", "web-a web-b"):
            logged = wait_until("its line", lambda: lines(traced, service, f"{sent}-{name}"))  # noqa: B023
            assert {line["trace_id"] for line in logged} == {first["trace"]}
    assert traces["old"] == of_client
    assert len(set(traces.values())) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", trace) for trace in traces.values())


def of_request(stack, sent):
    return next((span for span in spans(stack) if span["attributes"].get("request.id") == sent), None)


def spans(stack):
    said = stack.compose("logs", "--no-log-prefix", "collector").stdout
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def lines(stack, services, sent):
    said = stack.compose("logs", "--no-log-prefix", *services.split()).stdout
    found = [json.loads(line) for line in said.splitlines() if sent in line]
    return [line for line in found if line.get("request_id") == sent]


def test_a_collector_that_freezes_or_goes_away_fails_no_request_and_no_stop(traced):
    for trouble, heal in (("pause", "unpause"), ("stop", "start")):
        traced.compose(trouble, "collector")
        with traced.client() as client:
            assert [client.get("/probe/rows").status_code for _ in range(20)] == [200] * 20
        begun = time.monotonic()
        traced.compose("stop", "web-a")
        assert time.monotonic() - begun < 15  # the drain's few seconds, and no more for the collector
        assert traced.container("web-a")["State"]["ExitCode"] == 0
        traced.compose(heal, "collector")
        traced.compose("up", "--detach", "--wait", "--no-recreate", "web-a")
