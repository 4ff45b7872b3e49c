"""A Flask app of another repository, as the base image serves it."""

import json
import os
import subprocess
import sys

import pytest

from chassis.settings import Settings, of_service
from chassis.web.wsgi import create_app

# Nothing works here without a login, and every name that the chassis might use is taken.
SHOP = """
from flask import Blueprint, Flask, abort, request

def create_app():
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "its own"
    app.register_blueprint(Blueprint("health", __name__))
    app.before_request(lambda: None if request.headers.get("Authorization") else abort(401, "Log in."))
    app.add_url_rule("/health/ready", "metrics", lambda: "ready, says the shop")
    app.add_url_rule("/items/<int:number>", "item", lambda number: f"{request.scheme} {request.script_root} {number}")
    return app
"""
LOGIN = {"Authorization": "Basic c2hvcDpzaG9w"}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A function that makes the app's client, with settings."""
    (tmp_path / "another_shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("SERVICE", raising=False)

    def client(**settings):
        for name, value in {"FLASK_APP": "another_shop", **settings}.items():
            monkeypatch.setenv(name, value)
        return create_app().test_client()

    yield client
    sys.modules.pop("another_shop", None)


def test_probes_and_metrics_are_answered_whatever_the_app_does_and_the_rest_is_its_own(shop):
    client = shop()
    assert client.get("/health/ready").json["status"] == "success"
    assert client.get("/health/live").json == {"status": "alive"}
    assert set(client.get("/version").json) == {"name", "version", "revision", "built"}
    assert client.get("/items/7").status_code == 401
    answer = client.get("/items/7", headers=LOGIN | {"X-Request-ID": "0123456789"})
    assert (answer.text, answer.headers["X-Request-ID"]) == ("http  7", "0123456789")
    assert "Content-Security-Policy" not in answer.headers
    assert client.application.config["SECRET_KEY"] == "its own"
    assert 'route="/items/<int:number>",status="200"' in client.get("/metrics").text


def test_proxies_are_trusted_and_a_prefix_is_taken_off_where_settings_say_so(shop):
    client = shop(TRUSTED_PROXIES="1", URL_PREFIX="/shop")
    assert client.get("/shop/items/7", headers=LOGIN | {"X-Forwarded-Proto": "https"}).text == "https /shop 7"
    assert client.get("/items/7", headers=LOGIN).status_code == 404
    assert client.get("/health/ready").status_code == 200
    assert client.get("/shop/health/ready", headers=LOGIN).status_code == 404


@pytest.mark.parametrize(
    ("environment", "database"),
    [
        ({}, False),
        ({"DATABASE_URL": "sqlite:///shop.db"}, False),
        ({"DATABASE_URL": "postgresql+psycopg2://shop:words@db/shop"}, True),
        ({"DATABASE_HOST": "db"}, True),
    ],
)
def test_it_has_a_postgres_if_one_is_named_and_needs_no_secret_of_ours(environment, database, monkeypatch):
    for name in ("SERVICE", "DATABASE_URL", "DATABASE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert issubclass(of_service(), Settings)
    assert of_service().load(environment).uses_database is database


@pytest.mark.parametrize(
    ("flask_app", "words"),
    [("", "Could not locate a Flask application"), ("nowhere", "Could not import 'nowhere'")],
)
def test_where_there_is_no_app_the_server_ends_with_one_line(flask_app, words, tmp_path):
    (tmp_path / "gunicorn.conf.py").write_text(
        'from chassis.server.gunicorn import configure\nconfigure(globals(), "chassis.web.wsgi:create_app()")\n'
    )
    environment = {**os.environ, "SERVICE": "", "FLASK_APP": flask_app, "PORT": "1", "DATABASE_URL": ""}
    run = subprocess.run(
        [sys.executable, "-m", "gunicorn"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 78
    assert words in json.loads(run.stdout.splitlines()[-1])["message"]
    assert "Traceback" not in run.stdout + run.stderr
