"""Each test gets an app on a database of its own: a copy of one that was migrated once."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from flask import Flask, render_template_string, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from chassis.db import migrations
from chassis.settings import Address
from chassis_testing.postgres import Postgres
from web.app import create_app
from web.settings import Settings

MIGRATIONS = Path(__file__).parents[1] / "migrations"
NOWHERE = "postgresql://web:none@127.0.0.1:1/web"  # refused at once


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> Address:
    """A database at the newest revision, which copies are made from; no session is open on it."""
    address = postgres.create("web")
    owner = replace(address, user="web_owner")
    migrations.upgrade(_settings(owner.url), MIGRATIONS)
    return address


@pytest.fixture
def address(postgres: Postgres, migrated: Address) -> Iterator[Address]:
    """This test's own database."""
    with postgres.lend(migrated) as lent:
        yield lent


@pytest.fixture
def settings(address: Address) -> Settings:
    return _settings(address.url)


@pytest.fixture
def owner(settings: Settings) -> Settings:
    """The same database, for the role that migrates it."""
    address = replace(settings.database, user="web_owner")
    return replace(settings, database_url=address.url)


@pytest.fixture
def make_app(settings: Settings) -> Iterator[Callable[..., Flask]]:
    """Makes an app with some settings changed: `make_app(app_env="production")`."""
    made = []

    def make(**changes) -> Flask:
        made.append(create_app(replace(settings, **changes)))
        return made[-1]

    yield make
    for app in made:
        app.extensions["database"].dispose()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app()


@pytest.fixture
def form(app: Flask) -> str:
    """The path of a page with a form, which answers "accepted" to what it accepts."""
    field = '<form method="post"><input type="hidden" name="csrf_token" value="{{ csrf_token() }}">'

    def view() -> str:
        return "accepted" if request.method == "POST" else render_template_string(field)

    app.add_url_rule("/form", view_func=view, methods=["GET", "POST"])
    return "/form"


@pytest.fixture
def orphan() -> FlaskClient:
    """A client of an app whose database can't be reached."""
    return create_app(_settings(NOWHERE)).test_client()


@pytest.fixture
def browser(client: FlaskClient) -> "Browser":
    return Browser(client)


class Browser:
    """A person with a browser: follows redirects, and sends the token that a form's page carries."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def open(self, path: str) -> "Page":
        return Page(self.client.get(path, headers={"Accept": "text/html"}, follow_redirects=True))

    def send(self, path: str, **fields: str) -> "Page":
        """Opens the form at `path`, fills it in, sends it, and sees where that leads."""
        data = {"csrf_token": self.open(path).token, **fields}
        accept = {"Accept": "text/html"}
        answer = self.client.post(path, data=data, headers=accept, follow_redirects=True)
        return Page(answer)


class Page:
    """What came back: `status`, the `path` it came from, its `html`, and the `text` that a person reads."""

    def __init__(self, answer: TestResponse) -> None:
        self.status, self.path, self.html = answer.status_code, answer.request.path, answer.text
        body = re.sub(r"<head>.*?</head>", "", answer.text, flags=re.DOTALL)
        self.text = " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())

    @property
    def token(self) -> str:
        return re.search(r'name="csrf_token" value="([^"]+)"', self.html)[1]

    def value(self, name: str) -> str:
        """The contents of the field of that name."""
        area = re.search(rf'<textarea id="{name}"[^>]*>\n?(.*?)</textarea>', self.html, re.DOTALL)
        field = re.search(rf'<input id="{name}"[^>]* value="([^"]*)"', self.html)
        return unescape((area or field)[1])

    def describes(self, name: str) -> str:
        """All that a screen reader says about the field: what its aria-describedby points to."""
        field = re.search(rf'id="{name}"[^>]*aria-describedby="([^"]+)"', self.html)
        parts = [re.search(rf'id="{each}">(.*?)<', self.html)[1] for each in field[1].split()]
        return unescape(" ".join(parts))


def _settings(url: str) -> Settings:
    """Settings for a test: few connections, since many apps share one server."""
    return Settings(app_env="test", secret_key="test-key", database_url=url, web_threads=2)
