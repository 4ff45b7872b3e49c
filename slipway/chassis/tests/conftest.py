from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from chassis import db, errors, health, metrics, request_id
from chassis.settings import Address, Settings


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
    for each in (request_id, errors, metrics):
        each.init_app(app)
    for each in (db, health):
        each.init_app(app, settings)
    yield app
    app.extensions["database"].dispose()
