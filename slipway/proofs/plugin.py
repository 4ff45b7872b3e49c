"""What all tests of containers and of pages share; needs.py says what they need, and skips them if it is missing.

A folder's conftest.py registers it: `def pytest_configure(config): plugin.register(config)`.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.proofs import needs
from slipway.proofs.harness import (
    PROXIES,
    SERVICES,
    Service,
    Stack,
    built,
    copy_tree,
    ports,
    started,
    unique,
    with_probe,
)


def register(config: pytest.Config) -> None:
    """Registers it once, however many folders ask for it."""
    for module in (needs, sys.modules[__name__]):
        if not config.pluginmanager.is_registered(module):
            config.pluginmanager.register(module)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree as git sees it: what a fresh clone of it would be, edits included."""
    return copy_tree(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="session")
def production(checkout: Path) -> Iterator[Stack]:
    """Production, as a new user starts it, on free ports and under a unique name. A test leaves it as it was."""
    with started(Stack(checkout, unique("prod"), **ports())) as stack:
        yield stack


@pytest.fixture(scope="session")
def probed_checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree whose web services have the probe's routes and its table."""
    return with_probe(copy_tree(tmp_path_factory.mktemp("probed")))


@pytest.fixture(scope="session")
def probed(probed_checkout: Path) -> Iterator[Stack]:
    """Production with the probe's routes: rows and forms that belong to no service. A test leaves it as it was."""
    with started(Stack(probed_checkout, unique("probed"), **ports())) as stack:
        yield stack


@pytest.fixture(scope="session", params=PROXIES)
def proxied(request: pytest.FixtureRequest, probed_checkout: Path) -> Iterator[Stack]:
    """The same behind each proxy in turn: a test that asks for it is run for both."""
    if request.param == PROXIES[0]:
        yield request.getfixturevalue("probed")
        return
    with started(Stack(probed_checkout, unique(request.param), PROXY=request.param, **ports())) as stack:
        yield stack


@pytest.fixture(scope="session", params=SERVICES, ids=lambda service: service.name)
def service(request: pytest.FixtureRequest) -> Service:
    """Each service of the repository in turn: a test that asks for one is run for all of them."""
    return request.param


@pytest.fixture(scope="session")
def image(checkout: Path, service: Service) -> Iterator[str]:
    """The service's production image, built from the tree."""
    with built(checkout, service) as name:
        yield name


@pytest.fixture(scope="session")
def minimal(checkout: Path, service: Service) -> Iterator[str]:
    """The minimal variant of the image, with no shell and no package manager."""
    with built(checkout, service, VARIANT="minimal") as name:
        yield name
