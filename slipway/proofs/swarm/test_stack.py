"""`make stack` with all that compose has today, and with what it refuses."""

import json
import re

import pytest

from slipway.proofs.harness import PROXIES, Stack, copy_tree, unique

pytestmark = pytest.mark.containers

NAMED = {"no-new-privileges", "IPv6", "Prometheus", "PUBLISH_ADDRESS", "backups/scheduled", "slipway.database"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    stack = Stack(copy_tree(tmp_path_factory.mktemp("stack")), unique("stack"))
    stack.make("init")
    return stack


def make_stack(checkout, check=True, **settings):
    return checkout.make("stack", "TAG=one", check=check, env=checkout.environment | settings)


@pytest.mark.parametrize("proxy", PROXIES)
def test_every_key_that_compose_has_today_is_translated_or_named(checkout, proxy):
    profiles = "backup,grafana,observe,script"
    everything = {"COMPOSE_PROFILES": profiles, "PUBLISH_ADDRESS": "192.0.2.1", "EDGE_IPV6": "true"}
    said = make_stack(checkout, PROXY=proxy, **everything).stdout
    notes = re.findall(r"^  (?!docker)(.+)", said, re.MULTILINE)
    assert len(notes) == len(NAMED)
    assert all(any(word in note for note in notes) for word in NAMED)
    folder = checkout.directory / "deploy/swarm"
    before, whole = (json.loads((folder / f"{name}.yaml").read_text()) for name in ("before", "stack"))
    assert before["services"].keys() == {"db", "roles", "migrate", "backup"}
    assert whole["services"].keys() == {"proxy", "web-a", "web-b"} | ({"certificates"} if proxy == "nginx" else set())
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_it_stops_with_one_line_and_writes_nothing(checkout):
    compose = checkout.directory / "compose/web.yaml"
    kept = compose.read_text()
    before = {path: path.read_text() for path in checkout.directory.glob("deploy/swarm/*")}
    try:
        compose.write_text(
            kept.replace("    networks: [front, back]\n", "    networks: [front, back]\n    privileged: true\n", 1)
        )
        run = make_stack(checkout, check=False)
    finally:
        compose.write_text(kept)
    assert run.returncode
    assert run.stderr.startswith("make stack: web-a: `privileged` has no translation for Swarm")
    run = make_stack(checkout, check=False, IMAGE_PREFIX="")
    assert "IMAGE_PREFIX is not set" in run.stderr
    assert {path: path.read_text() for path in checkout.directory.glob("deploy/swarm/*")} == before
