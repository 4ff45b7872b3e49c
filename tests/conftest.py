"""Container tests run where a container engine answers. Where none does they are skipped, counted
and named with the way to get one; with REQUIRE_ENGINE=1, as in CI, that is a failure instead."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import ROOT, Stack, copy_tree, ports, started, unique

HOW_TO_GET_AN_ENGINE = (
    "start Docker (https://docs.docker.com/engine/install), or on a bare Debian machine: sudo .ci/engine"
)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ENGINE] = engine_problem()
    if config.stash[ENGINE] and os.environ.get("REQUIRE_ENGINE"):
        raise pytest.UsageError(f"REQUIRE_ENGINE is set, and {config.stash[ENGINE]}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if problem := config.stash[ENGINE]:
        for item in items:
            if item.get_closest_marker("containers"):
                item.add_marker(pytest.mark.skip(reason=problem))


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", ()) if "containers" in report.keywords]
    if skipped:
        terminalreporter.write_line(
            f"{len(skipped)} container tests were skipped: {config.stash[ENGINE]}. To run them, {HOW_TO_GET_AN_ENGINE}",
            yellow=True,
        )


def engine_problem() -> str | None:
    run = subprocess.run(
        [sys.executable, "-c", "import engine, sys; sys.exit(engine.problem())"],
        cwd=ROOT / "tools",
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stderr.strip() or None


ENGINE = pytest.StashKey[str | None]()


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree as git sees it: what a fresh clone of it would be, edits included."""
    return copy_tree(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def production(checkout: Path) -> Iterator[Stack]:
    """Production, as a new user starts it, on free ports and under a name of its own."""
    with started(Stack(checkout, unique("prod"), **ports())) as stack:
        yield stack


@pytest.fixture(scope="session")
def image(checkout: Path) -> str:
    """The service's production image, built from the tree."""
    name = "slipway-test/web:image"
    subprocess.run(
        ["docker", "build", "--quiet", "--build-arg", "SERVICE=web", "--build-arg", "VERSION=1.2.3",
         "--build-arg", "REVISION=0123456789abcdef", "--file", "docker/service.Dockerfile", "--tag", name, "."],
        cwd=checkout,
        check=True,
        capture_output=True,
    )  # fmt: skip
    return name
