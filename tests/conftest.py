"""Container tests run where a container engine answers, browser tests where there is a Chromium. Where
there is none they are skipped, counted and named with the way to get one; with REQUIRE_ENGINE=1, as
in CI, that is a failure instead."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import ROOT, SERVICES, Service, Stack, built, chromium, copy_tree, ports, started, unique, with_probe

# What a test with the marker needs, and how to get it.
HOW_TO_GET = {
    "containers": "start Docker (https://docs.docker.com/engine/install), or on a bare Debian machine: sudo .ci/engine",
    "browser": "install Chromium or Chrome, or name one: CHROMIUM=/path; on a bare Debian machine: sudo .ci/browser",
}
MISSING = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    problems = {"containers": engine_problem(), "browser": browser_problem()}
    missing = config.stash[MISSING] = {marker: problem for marker, problem in problems.items() if problem}
    if missing and os.environ.get("REQUIRE_ENGINE"):
        raise pytest.UsageError(f"REQUIRE_ENGINE is set, and {'; '.join(missing.values())}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(ROOT / "tests/browser"):
            item.add_marker("browser")
        for marker, problem in config.stash[MISSING].items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=problem))


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    for marker, problem in config.stash[MISSING].items():
        skipped = [each for each in terminalreporter.stats.get("skipped", ()) if marker in each.keywords]
        if skipped:
            kind = marker.removesuffix("s")
            text = f"{len(skipped)} {kind} tests were skipped: {problem}. To run them, {HOW_TO_GET[marker]}"
            terminalreporter.write_line(text, yellow=True)


def engine_problem() -> str | None:
    run = subprocess.run(
        [sys.executable, "-c", "import engine, sys; sys.exit(engine.problem())"],
        cwd=ROOT / "tools",
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stderr.strip().splitlines()[-1] if run.returncode else None


def browser_problem() -> str | None:
    return None if chromium() else "no Chromium is on the PATH"


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree as git sees it: what a fresh clone of it would be, edits included."""
    return copy_tree(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def production(checkout: Path) -> Iterator[Stack]:
    """Production, as a new user starts it, on free ports and under a name of its own. A test leaves it as it was."""
    with started(Stack(checkout, unique("prod"), **ports())) as stack:
        yield stack


@pytest.fixture(scope="session")
def probed_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree whose web services have the probe's routes and its table."""
    return with_probe(copy_tree(tmp_path_factory.mktemp("probed")))


@pytest.fixture(scope="session")
def probed(probed_checkout: Path) -> Iterator[Stack]:
    """Production with the probe's routes: rows and forms that are no service's own. A test leaves it as it was."""
    with started(Stack(probed_checkout, unique("probed"), **ports())) as stack:
        yield stack


@pytest.fixture(scope="session", params=SERVICES, ids=lambda service: service.name)
def service(request: pytest.FixtureRequest) -> Service:
    """Each service of the repository in turn: a test that asks for one is run for all of them."""
    return request.param


@pytest.fixture(scope="session")
def image(checkout: Path, service: Service) -> Iterator[str]:
    """The service's production image, built from the tree."""
    with built(checkout, service.name) as name:
        yield name


@pytest.fixture(scope="session")
def minimal(checkout: Path, service: Service) -> Iterator[str]:
    """The same with no shell and no package manager."""
    with built(checkout, service.name, VARIANT="minimal") as name:
        yield name
