"""`/status` tells the public next to nothing, and a client with the token the state of the service."""

import threading
from dataclasses import replace

import pytest
from flask import Flask
from werkzeug.serving import make_server

from chassis.observe import timeseries
from chassis.web import status
from chassis.web.setup import setup

TOKEN = "t" * 40
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PUBLIC = {"name", "version", "status"}


@pytest.fixture
def make(settings):
    """Makes an app in production, with some settings changed."""
    made = []

    def make_app(**changes) -> Flask:
        chosen = replace(settings, **{"app_env": "production", "status_token": TOKEN, **changes})
        app = Flask("sample")
        setup(app, chosen)
        app.add_url_rule("/good", "good", lambda: "good")
        app.add_url_rule("/bad", "bad", lambda: 1 / 0)
        made.append(app)
        return app

    yield make_app
    for app in made:
        app.extensions["database"].dispose()


@pytest.fixture
def production(make):
    return make().test_client()


def sum_of(client, name):
    return sum(client.get("/status", headers=BEARER).json["replicas"][0]["recent"][name])


def test_the_public_learns_name_version_and_up(production):
    answer = production.get("/status")
    assert answer.json.keys() == PUBLIC
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_token_opens_it(production):
    answer = production.get("/status", headers=BEARER)
    (replica,) = answer.json["replicas"]
    assert replica["problem"] is None
    assert replica["database"]["answers"] is True
    assert replica["database"]["version"].startswith("18")


def test_the_page_says_where_more_is(production):
    page = {"Accept": "text/html"}
    assert "docs/observe.md" not in production.get("/status", headers=page).text
    assert "docs/observe.md" in production.get("/status", headers={**BEARER, **page}).text


@pytest.mark.parametrize("given", ["Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer \xe9"])
def test_another_one_is_refused(production, given):
    answer = production.get("/status", headers={"Authorization": given})
    assert answer.status_code == 401
    assert "replicas" not in answer.text


@pytest.mark.parametrize("where", ["/status?token={}", "/status?only=this&token={}", "/status?only=this"])
def test_no_url_opens_it(production, where):
    assert production.get(where.format(TOKEN)).json.keys() == PUBLIC


def test_without_a_token_nobody_opens_it(make):
    client = make(status_token="").test_client()
    assert client.get("/status").json.keys() == PUBLIC
    assert client.get("/status", headers={"Authorization": "Bearer "}).status_code == 401


def test_the_form_gives_a_guarded_cookie_that_opens_it(production):
    answer = production.post("/status", data={"token": TOKEN}, base_url="https://example.org")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/status")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-status=")
    for guard in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/"):
        assert guard in cookie
    assert TOKEN not in cookie
    assert "replicas" in production.get("/status", base_url="https://example.org").json


def test_the_cookie_ends_with_the_day_and_with_the_token(make, production, monkeypatch):
    value = production.post("/status", data={"token": TOKEN}).headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    for client in (make(status_token="u" * 40).test_client(), make(status_token="").test_client()):
        client.set_cookie("__Host-status", value)
        assert client.get("/status").json.keys() == PUBLIC
    monkeypatch.setattr(status, "COOKIE_AGE", -1)
    assert production.get("/status", headers={"Cookie": f"__Host-status={value}"}).json.keys() == PUBLIC


def test_it_counts_requests_and_errors_and_no_probe(make):
    client = make().test_client()
    requests, failed = sum_of(client, "requests"), sum_of(client, "errors")
    for path in ("/good", "/good", "/bad", "/health/live", "/health/ready", "/metrics", "/nowhere"):
        client.get(path)
    assert sum_of(client, "requests") == requests + 4
    assert sum_of(client, "errors") == failed + 1


def test_every_round_trip_to_the_database_is_counted(make, monkeypatch):
    counted = []
    monkeypatch.setattr(timeseries, "count_ping", counted.append)
    client = make().test_client()
    client.get("/health/ready")
    client.get("/status", headers=BEARER)
    assert len(counted) == 2


def test_a_database_that_is_away_is_a_problem_and_no_error(make):
    client = make(database_url="postgresql://web:none@127.0.0.1:1/web").test_client()
    answer = client.get("/status", headers=BEARER)
    assert answer.status_code == 200
    assert answer.json["replicas"][0]["problem"] == "no database"
    assert "127.0.0.1" not in answer.text


def test_replicas_ask_each_other_and_one_that_is_gone_is_named(make):
    server = make_server("127.0.0.1", 0, make(), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        peers = f"127.0.0.1:{server.port}, 127.0.0.1:1"
        here, gone = make(status_peers=peers).test_client().get("/status", headers=BEARER).json["replicas"]
    finally:
        server.shutdown()
    assert here["name"] == "127.0.0.1"
    assert here["problem"] is None
    assert gone == {"name": "127.0.0.1", "problem": "does not answer"}


def test_what_is_older_than_a_quarter_of_an_hour_is_forgotten(monkeypatch):
    timeseries.count_request(0.1, failed=False)
    before = sum(step.requests for step in timeseries.read())
    later = timeseries.time() + timeseries.STEP * timeseries.STEPS
    monkeypatch.setattr(timeseries, "time", lambda: later)
    assert before >= 1
    assert sum(step.requests for step in timeseries.read()) == 0
    timeseries.count_request(0.1, failed=True)
    assert timeseries.read()[-1] == (1, 1, 0.1, 0, 0, 0.0)


def test_no_count_is_lost_between_threads():
    threads = [
        threading.Thread(target=lambda: [timeseries.count_request(0, failed=False) for _ in range(2000)])
        for _ in range(4)
    ]
    before = sum(step.requests for step in timeseries.read())
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(step.requests for step in timeseries.read()) == before + 8000
