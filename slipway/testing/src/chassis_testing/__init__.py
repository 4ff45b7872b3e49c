"""pytest fixtures for every service, on a real Postgres. Not in any production image.

A service's conftest.py gives `settings` (see `Postgres.lend`) and `app`; the rest is here.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from chassis_testing.postgres import Postgres

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient, FlaskCliRunner


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A Postgres of this session's own, on a free port of 127.0.0.1, fast instead of durable."""
    with Postgres(tmp_path_factory.mktemp("postgres"), durable=False) as server:
        yield server


@pytest.fixture
def client(app: "Flask") -> "FlaskClient":
    """Flask's test client (flask.palletsprojects.com/en/stable/testing)."""
    return app.test_client()


@pytest.fixture
def runner(app: "Flask") -> "FlaskCliRunner":
    """Flask's command-line runner."""
    return app.test_cli_runner()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Hides the developer's `.env` and settings from each test, and sets SERVICE for a service's own tests."""
    import os

    from chassis.settings import Settings

    if "services" in (parts := request.path.parts):
        monkeypatch.setenv("SERVICE", parts[parts.index("services") + 1])

    for name in Settings.__dataclass_fields__:
        for variable in (name.upper(), f"{name.upper()}_FILE"):
            if variable in os.environ:
                monkeypatch.delenv(variable)
    monkeypatch.setattr("chassis.settings.read_dotenv", dict)
