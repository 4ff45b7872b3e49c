"""What the tests need besides Python: a container engine, a browser, and for one of them the image that builds Caddy.
If one is missing, its tests are skipped and counted, and the report says how to get it; with REQUIRE=engine,browser
that is a failure before any test runs."""

import os

import pytest

from slipway.commands.shared import dotenv, engine
from slipway.proofs.harness import ROOT, chromium


def engine_problem() -> str | None:
    try:
        problem = engine.problem()
    except engine.NoAnswer as silence:  # it reported its version, but answers nothing after that
        problem = str(silence)
    return problem and f"{problem}; on bare Debian: sudo slipway/machine/engine"


def browser_problem() -> str | None:
    if chromium():
        return None
    return "install Chromium or Chrome, or name one, CHROMIUM=/path; on bare Debian: sudo slipway/machine/browser"


def builder_problem() -> str | None:
    image = dotenv.get("REGISTRY") + "caddy:2-builder"
    if not engine_problem() and engine.run("docker", "image", "inspect", image).returncode == 0:
        return None
    return f"{image} is not here: slipway/machine/bases/build caddy:2-builder pulls it, or builds it in minutes"


# By name: the marker of the tests that need it, and why it is not available, with what to do.
NEEDS = {
    "engine": ("containers", engine_problem),
    "browser": ("browser", browser_problem),
    "builder": ("builder", builder_problem),
}
MISSING = pytest.StashKey[dict[str, str]]()


def missing() -> dict[str, str]:
    """The problem with each need that is not met."""
    return {name: found for name, (_, problem) in NEEDS.items() if (found := problem())}


def refusal(missing: dict[str, str]) -> str | None:
    """Why nothing may run, in one line, if REQUIRE names something that is missing."""
    required = os.environ.get("REQUIRE", "").replace(",", " ").split()
    if unknown := set(required) - NEEDS.keys():
        return f"REQUIRE takes {', '.join(NEEDS)}, not {', '.join(sorted(unknown))}"
    absent = [f"no {name} ({problem})" for name, problem in missing.items() if name in required]
    return f"REQUIRE={','.join(required)}, and there is {'; '.join(absent)}" if absent else None


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        config.stash[MISSING] = config.workerinput["missing"]
    elif MISSING not in config.stash:  # `make prove` has checked already
        config.stash[MISSING] = missing()
        if problem := refusal(config.stash[MISSING]):
            raise pytest.UsageError(problem)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """Passes the result to xdist's processes, so that an engine that never answers is waited for only once."""
    node.workerinput["missing"] = node.config.stash[MISSING]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(ROOT / "slipway/proofs/browser"):
            item.add_marker("browser")
        for name in config.stash[MISSING]:
            if item.get_closest_marker(NEEDS[name][0]):
                item.add_marker(pytest.mark.skip(reason=f"no {name}"))


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    skipped = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", ())]
    for name, problem in config.stash[MISSING].items():
        if count := sum(reason.endswith(f"no {name}") for reason in skipped):
            terminalreporter.write_line(f"{count} tests were skipped, there is no {name}: {problem}", yellow=True)
