"""The dashboard for Grafana, and the queries of docs/metrics.md, asked of a Prometheus that has seen traffic."""

import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote

import httpx
import pytest

from slipway.proofs.harness import ROOT, Stack, copy_tree, free_port, ports, started, unique, wait_until, with_probe
from slipway.proofs.stack.test_hardening import found, internal

pytestmark = pytest.mark.containers

DASHBOARD = json.loads((ROOT / "docker/grafana/dashboards/operations.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {"$__rate_interval": "20s", "$service": ".+"}  # what Grafana would put there
ASK = 'while read -r query; do wget -q -O - "http://metrics:9090/api/v1/query?query=$query" || echo "{}"; echo; done'
SOON = 120  # seconds


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Production with the profile observe, which looks every second, and a worker."""
    tree = with_probe(copy_tree(tmp_path_factory.mktemp("dashboard")))
    config = tree / "docker/observe/prometheus.yml"
    config.write_text(re.sub(r"\b(15|5)s\b", "1s", config.read_text()))
    (tree / "docker/observe/targets/tick.yml").write_text("- targets: [tick:8000]\n  labels: { service: tick }\n")
    settings = {
        "COMPOSE_FILE": f"compose.yaml:{ROOT}/slipway/proofs/stack/dashboard.yaml",
        "COMPOSE_PROFILES": "backup,observe,grafana",
        "GRAFANA_PORT": free_port(),
        **ports(),
    }
    with started(Stack(tree, unique("dashboard"), **settings)) as stack:
        yield stack


@pytest.fixture(scope="module")
def busy(observed: Stack) -> Iterator[Stack]:
    """The same with traffic: requests that succeed, that find nothing, and that fail in the database."""
    done = threading.Event()

    def ask(client: httpx.Client) -> None:
        while not done.wait(0.1):
            with suppress(httpx.HTTPError):
                for title in ("short", "x" * 301):  # longer than the column is
                    client.post("/probe/rows", json={"title": title})
                for path in ("/probe/rows", "/probe/rows/0"):
                    client.get(path)

    with observed.client() as client:
        thread = threading.Thread(target=ask, args=[client])
        thread.start()
        try:
            yield observed
        finally:
            done.set()
            thread.join()


def answers(stack: Stack, queries: list[str]) -> list[list[float]]:
    """The values that Prometheus answers to each query, without those that are not a number."""
    lines = "".join(f"{quote(query)}\n" for query in queries)
    said = stack.compose("exec", "-T", "prometheus", "sh", "-c", ASK, input=lines).stdout.splitlines()
    assert len(said) == len(queries)
    found = [json.loads(line).get("data", {}).get("result", []) for line in said]
    values = [[float(each["value"][1]) for each in series] for series in found]
    return [[value for value in each if not math.isnan(value)] for each in values]


def filled(query: str) -> str:
    """With Grafana's variables filled in, and without what hides that a metric is missing: alerts alone may be."""
    if "ALERTS" not in query:
        query = query.replace(" or vector(0)", "")
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query
    return query


def test_every_panel_has_something_to_show(busy, record_property):
    asked = {f"{panel['title']} {each['refId']}": filled(each["expr"]) for panel in PANELS for each in panel["targets"]}
    all_have_an_answer(busy, asked)
    record_property("figure", f"{len(PANELS)} panels, {len(asked)} queries")


def test_every_query_of_the_docs_has_an_answer(busy, record_property):
    asked = queries_of_the_docs()
    assert len(asked) > 10
    all_have_an_answer(busy, dict(zip(asked, asked, strict=True)))
    record_property("figure", f"{len(asked)} queries")


def all_have_an_answer(stack: Stack, asked: dict[str, str]) -> None:
    """Of these queries, under their names. A failure names those that have none."""

    def none_is_empty() -> bool:
        empty = [name for name, values in zip(asked, answers(stack, [*asked.values()]), strict=True) if not values]
        assert empty == []
        return True

    wait_until("a value for every query", none_is_empty, SOON)


def queries_of_the_docs() -> list[str]:
    """Those of the table of questions: beside each question, one query or more."""
    rows = re.findall(r"^\| .+\? \| (`.+) \|$", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    return [query for row in rows for query in re.findall("`([^`]+)`", row)]


def test_panels_are_told_apart_stand_side_by_side_and_ask_the_prometheus_that_was_chosen():
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} covers {taken.get((x, y))}"
                taken[x, y] = panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}


def test_grafana_would_be_hardened_read_the_dashboard_and_reach_prometheus(observed):
    """A stand-in takes its place: its own image has never been run here."""
    grafana = observed.container("grafana")
    assert list(found(grafana, {name: internal(observed, name) for name in observed.networks()})) == [
        ("no published port", ""),
        ("internal networks only", "grafana"),
    ]
    ((published,),) = filter(None, grafana["NetworkSettings"]["Ports"].values())
    assert published["HostIp"] == "127.0.0.1"

    served = f"http://127.0.0.1:{published['HostPort']}"
    assert httpx.get(f"{served}/dashboards/operations.json", trust_env=False).json() == DASHBOARD
    provider = httpx.get(f"{served}/dashboards/dashboards.yaml", trust_env=False).text
    (environment,) = (each for each in grafana["Config"]["Env"] if each.startswith("GF_PATHS_PROVISIONING="))
    assert f"path: {environment.partition('=')[2]}/dashboards " in provider

    source = httpx.get(f"{served}/datasources/datasources.yaml", trust_env=False).text
    url = re.findall(r"type: prometheus\n +url: (\S+)", source)[0]
    reach = f"import urllib.request as u; print(u.urlopen('{url}/-/ready').status)"
    assert observed.compose("exec", "-T", "grafana", "python", "-c", reach).stdout.strip() == "200"


def test_without_its_profile_there_is_no_grafana(observed):
    without = {**observed.environment, "COMPOSE_PROFILES": "observe"}
    assert "grafana" not in observed.compose("config", "--services", env=without).stdout.split()
