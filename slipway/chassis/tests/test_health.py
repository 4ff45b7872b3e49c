import threading

import pytest

from chassis.server import drain
from chassis.web import checks, health


def test_live_answers_without_the_database(app, client, monkeypatch):
    monkeypatch.setattr("psycopg2.connect", lambda *a, **k: pytest.fail("asked the database"))
    answer = client.get("/health/live")
    assert (answer.status_code, answer.json) == (200, {"status": "alive"})


def test_ready_while_the_database_answers(client):
    answer = client.get("/health/ready")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.content_type == "application/json"
    assert {check["checker"] for check in answer.json["results"]} == {"draining", "database"}


def test_not_ready_while_draining(client, monkeypatch):
    monkeypatch.setattr(drain, "started", lambda: True)
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert client.get("/health/live").status_code == 200


def test_a_failing_check_names_the_class_of_its_error_and_nothing_else(app, client):
    def leaky():
        raise ConnectionError("password=hunter2 host=10.0.0.1")

    health.add_checks(app, {"leaky": leaky})
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert "ConnectionError" in answer.text
    assert "hunter2" not in answer.text


def test_a_check_that_hangs_is_a_failure_and_runs_once_however_many_ask(app, client, monkeypatch):
    monkeypatch.setattr(checks, "TIMEOUT", 0.2)
    calls, release = [], threading.Event()

    def hangs():
        calls.append(1)
        return release.wait(10), ""

    health.add_checks(app, {"hangs": hangs})
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(app.test_client().get("/health/ready").status_code))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    release.set()
    assert answers == [503] * 8
    assert len(calls) == 1


def test_readiness_turning_is_one_log_line_each_way(app, client, monkeypatch, caplog):
    caplog.set_level("INFO")
    states = iter([False, True, True, True, False, False])
    monkeypatch.setattr(drain, "started", lambda: next(states))
    codes = [client.get("/health/ready").status_code for _ in range(6)]
    assert codes == [200, 503, 503, 503, 200, 200]
    assert [r.getMessage() for r in caplog.records if r.name == app.logger.name] == [
        "not ready",
        "ready",
    ]


def test_version_says_what_the_build_put_in(client, monkeypatch):
    for name, value in {
        "SERVICE": "shop",
        "VERSION": "1.2",
        "REVISION": "abc",
        "BUILT": "2026-01-01",
    }.items():
        monkeypatch.setenv(name, value)
    answer = client.get("/version")
    assert answer.json == {
        "name": "shop",
        "version": "1.2",
        "revision": "abc",
        "built": "2026-01-01",
    }
