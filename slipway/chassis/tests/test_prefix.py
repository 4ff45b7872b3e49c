"""A service below /billing: what it answers where."""

from dataclasses import replace

import pytest
from flask import Flask, session, url_for

from chassis.observe import request_id
from chassis.settings import Settings, SettingsError
from chassis.web import errors, prefix, security


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, url_prefix="/billing")


@pytest.fixture
def app(settings: Settings) -> Flask:
    app = Flask("sample", static_folder=None)
    security.init_app(app, settings)
    errors.init_app(app)
    app.add_url_rule("/", "home", lambda: url_for("page"))
    app.add_url_rule("/page", "page", lambda: session.setdefault("seen", "yes"))
    app.add_url_rule("/health/live", "live", lambda: "alive")
    app.add_url_rule("/metrics", "metrics", lambda: "counted 1")
    prefix.init_app(app, settings)
    request_id.init_app(app)
    return app


def test_a_route_is_found_below_the_prefix_and_nowhere_else(client):
    assert client.get("/billing/page").text == "yes"
    assert client.get("/page").status_code == 404
    assert client.get("/billingpage").status_code == 404


def test_addresses_that_the_app_makes_have_the_prefix(client):
    assert client.get("/billing/").text == "/billing/page"


@pytest.mark.parametrize("path", ["/", "/billing"])
def test_who_comes_without_it_or_its_slash_is_sent_on(client, path):
    answer = client.get(path)
    assert answer.status_code == 308
    assert answer.headers["Location"].removeprefix("http://localhost") == "/billing/"


@pytest.mark.parametrize("path", ["/health/live", "/metrics"])
def test_what_is_internal_has_no_address_below_the_prefix(client, path):
    assert client.get(path).status_code == 200
    assert client.get(f"/billing{path}").status_code == 404


def test_an_error_is_answered_in_the_apps_own_words(client):
    answer = client.get("/elsewhere", headers={"Accept": "application/json"})
    assert answer.json["status"] == 404
    assert answer.headers["X-Request-ID"] == answer.json["request_id"]


def test_services_that_share_a_site_do_not_share_a_cookie(client):
    assert client.get("/billing/page").headers["Set-Cookie"].startswith("session-billing=")


@pytest.mark.parametrize("value", ["billing", "/billing/", "/a b"])
def test_a_prefix_that_is_no_path_is_refused(value):
    environ = {"APP_ENV": "test", "SECRET_KEY": "k", "DATABASE_HOST": "db", "URL_PREFIX": value}
    with pytest.raises(SettingsError, match="URL_PREFIX must look like /billing"):
        Settings.load(environ)
