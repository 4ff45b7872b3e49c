"""docs/architecture.md and docs/tutorial.md describe what exists, and the picture is accessible to all readers."""

import re
from xml.etree import ElementTree

import pytest

from slipway.proofs.harness import ROOT

PAGES = ("docs/architecture.md", "docs/tutorial.md")
SVG = "{http://www.w3.org/2000/svg}"
FOLDERS = "compose|deploy|docker|docs|libs|services|slipway|templates|tests"
MADE_BY_A_SERVICE = ("models.py", "settings.py", "app.py")
MADE_LATER = ("services/billing", "deploy/hooks", "libs", "templates")  # according to the pages


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_it_names_exists(page):
    text = (ROOT / page).read_text()
    paths = re.findall(rf"`((?:{FOLDERS})/[\w./-]+|(?:{FOLDERS}|Makefile))`", text)
    paths += [f"docs/{name}" for name in re.findall(r"\]\(([\w./-]+)\)", text)]
    chassis = {path.name for path in (ROOT / "slipway/chassis/src/chassis").rglob("*.py")}
    paths += [f"slipway/chassis/src/{name}" for name in re.findall(r"`(chassis/[\w/]+\.py)`", text)]
    modules = [name for name in re.findall(r"`(\w+\.py)`", text) if name not in MADE_BY_A_SERVICE]
    assert set(modules) <= chassis
    assert paths
    assert [path for path in paths if not path.startswith(MADE_LATER) and not (ROOT / path).exists()] == []


def test_every_verb_that_it_names_is_one():
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "slipway/Makefile").read_text(), re.MULTILINE))
    named = {verb for page in PAGES for verb in re.findall(r"\bmake ([a-z-]+)[`\s]", (ROOT / page).read_text())}
    assert named - verbs - {"and"} == set()


def test_every_change_that_a_fork_wants_has_a_place_outside_the_kit():
    """Rows of "Where a change goes"; `make template-update` replaces the kit whole."""
    text = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \|$", text.partition("## Where a change goes")[2].partition("\n## ")[0], re.MULTILINE
    )[1:]
    assert len(rows) > 20
    places = {wanted: re.findall(r"`([^`]+)`", place) for wanted, place in rows}
    assert [wanted for wanted, named in places.items() if not named or "slipway/" in " ".join(named)] == []


def test_the_picture_is_text_with_a_title_and_a_description_and_follows_the_readers_scheme():
    svg = ElementTree.fromstring((ROOT / "docs/images/architecture.svg").read_text())
    assert svg.get("role") == "img"
    described = {each.get("id"): each.text for each in (svg.find(f"{SVG}title"), svg.find(f"{SVG}desc"))}
    assert set(svg.get("aria-labelledby").split()) == set(described)
    assert all(described.values())
    words = {each.text for each in svg.iter(f"{SVG}text")}
    assert {"proxy", "web-a", "web-b", "db", "edge", "front", "back"} <= words
    assert "prefers-color-scheme: dark" in svg.find(f"{SVG}style").text


def test_what_the_picture_calls_a_container_volume_or_network_is_one_in_the_compose_files():
    compose = "\n".join(path.read_text() for path in (ROOT / "compose").glob("*.yaml"))
    known = set(re.findall(r"^  ([\w-]+):", compose, re.MULTILINE))
    svg = ElementTree.fromstring((ROOT / "docs/images/architecture.svg").read_text())
    texts = [(each.get("class", ""), each.text) for each in svg.iter(f"{SVG}text")]
    named = {name for kind, text in texts if "name" in kind.split() for name in text.split(", ")}
    named |= {text for kind, text in texts if "mount" in kind.split() and not text.endswith("/")}
    # People, the next service, and the legend.
    assert named - known - {"people", "you", "make dev", "billing-a", "billing-b", "volume"} == set()
