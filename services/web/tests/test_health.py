"""Ready follows the database, live never asks it."""

import psycopg2
import pytest


def test_ready_while_the_database_answers(client):
    assert client.get("/health/ready").status_code == 200


def test_not_ready_while_the_database_is_unreachable_and_the_reason_stays_inside(orphan):
    answer = orphan.get("/health/ready")
    assert answer.status_code == 503
    assert "127.0.0.1" not in answer.text


def test_live_whatever_the_database_does(orphan, monkeypatch):
    monkeypatch.setattr(psycopg2, "connect", lambda *a, **k: pytest.fail("live asked the database"))
    assert orphan.get("/health/live").status_code == 200


def test_metrics_count_requests_by_route_not_by_path(client):
    client.get("/static/123456789.css")
    metrics = client.get("/metrics").text
    assert 'route="/static/<path:filename>"' in metrics
    assert "123456789" not in metrics
