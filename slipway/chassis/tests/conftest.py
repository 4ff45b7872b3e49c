from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from chassis.settings import Address, Settings
from chassis.web.setup import setup


@pytest.fixture(scope="session")
def address(postgres) -> Address:
    return postgres.create("sample")


@pytest.fixture
def settings(address: Address) -> Settings:
    return Settings.load({"APP_ENV": "test", "SECRET_KEY": "k", "DATABASE_URL": address.url})


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    """The smallest app on the chassis."""
    app = Flask("sample", root_path=str(Path(__file__).parent))
    setup(app, settings)
    yield app
    app.extensions["database"].dispose()
