"""What the proxy is told by `/health/ready?for=traffic`, case by case."""

import os
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic

import pytest
from flask import Flask
from sqlalchemy.exc import OperationalError
from werkzeug.serving import make_server

from chassis.server import drain
from chassis.web import database, health, traffic

TRAFFIC = "/health/ready?for=traffic"


@pytest.fixture
def replica(settings, tmp_path):
    """Makes a replica whose database can be taken away: `client.lost` is what its check then raises."""

    made = []

    def make(*peers, **changes):
        app = Flask("sample", root_path=str(tmp_path))
        given = replace(settings, status_peers=",".join(peers), **changes)
        database.init_app(app, given)
        health.init_app(app, given)
        client = app.test_client()
        client.lost, client.word, client.hangs = None, None, None
        (checked,) = (each for each in app.extensions["health"].checks.checkers if each.__name__ == "database")
        real = checked.check

        def check():
            begun = monotonic()
            if client.hangs:
                client.hangs.wait(10)
            if client.lost:
                app.extensions["database"].absence.note(begun, silent=False)
                raise client.lost
            return (False, client.word) if client.word else real()

        checked.check = check
        client.state = app.extensions["health"].traffic
        made.append(client)
        return client

    yield make
    for client in made:
        client.state.checks = lambda: ()  # its thread has nothing left to look at
        client.application.extensions["database"].dispose()


LOST = OperationalError("SELECT 1", {}, Exception("no route to host"))


def wanted(client):
    begun = monotonic()
    status = client.get(TRAFFIC).status_code
    assert monotonic() - begun < 1  # the proxy's timeout
    return {200: True, 503: False}[status]


@contextmanager
def peer(status):
    """The host and port of a replica that answers with this status, or never if it is None."""
    if status is None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            yield f"127.0.0.1:{silent.getsockname()[1]}"
        return
    app = Flask("peer")
    app.add_url_rule("/health/ready", view_func=lambda: ("", status))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.port}"
    server.shutdown()


def test_a_replica_that_is_ready_is_wanted(replica):
    assert wanted(replica())


@pytest.mark.parametrize(
    ("peers", "answer"), [([503], True), ([None, 503], True), ([200], False), ([None, 200], False)]
)
def test_without_a_database_it_is_wanted_where_no_peer_has_one(replica, peers, answer):
    with peer(peers[0]) as first, peer(peers[-1]) as last:
        client = replica(first, last, "127.0.0.1:1")
        assert wanted(client)
        client.lost = LOST
        assert wanted(client) is answer
        client.lost = None
        assert wanted(client)


def test_what_a_replica_that_alone_is_cut_off_still_has_may_wait(replica):
    with peer(200) as ready:
        client = replica(ready)
        assert wanted(client)
        client.lost = LOST
        client.state.absence.note(monotonic() - 100, silent=True)
        assert client.state.absence.lasts()
        assert not wanted(client)
        assert not client.state.absence.lasts()


def test_without_peers_it_stays(replica):
    client = replica()
    assert wanted(client)
    client.lost = LOST
    assert wanted(client)


def test_it_does_not_take_itself_for_a_peer(replica):
    with peer(200) as own:
        client = replica(own, port=int(own.partition(":")[2]))
        assert wanted(client)
        client.lost = LOST
        assert wanted(client)


def test_a_release_that_was_never_ready_is_not_wanted(replica):
    client = replica()
    client.lost = LOST
    assert not wanted(client)
    client.lost, client.word = None, "migrations are pending"
    assert not wanted(client)


def test_one_worker_that_was_ready_is_enough(replica):
    client = replica()
    if (child := os.fork()) == 0:
        os._exit(0 if wanted(client) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    client.lost = LOST
    assert wanted(client)


def test_pending_migrations_and_a_drain_are_no_absence(replica, monkeypatch):
    client = replica()
    assert wanted(client)
    client.word = "migrations are pending"
    assert not wanted(client)
    client.word, client.lost = None, LOST
    assert wanted(client)
    monkeypatch.setattr(drain, "started", lambda: True)
    assert not wanted(client)


def test_it_answers_in_time_while_the_database_says_nothing(replica):
    with peer(None) as silent:
        client = replica(silent)
        assert wanted(client)
        client.hangs = threading.Event()
        client.state.absence.note(monotonic(), silent=True)
        try:
            assert wanted(client)
        finally:
            client.hangs.set()


def test_it_goes_on_looking_while_no_request_gets_a_thread(replica, monkeypatch):
    monkeypatch.setattr(traffic, "SELDOM", 0.1)
    client = replica()
    assert wanted(client)
    seen = threading.Event()
    client.state.checks = lambda: [traffic.Bounded(lambda: (seen.set(), ""), "database")]
    assert seen.wait(5)


def test_the_public_learns_a_word_and_does_not_ask_for_the_proxy(replica):
    client = replica()
    assert wanted(client)
    client.lost = LOST
    outside = {"X-Forwarded-For": "203.0.113.7"}
    answer = client.get("/health/ready", headers=outside)
    assert (answer.status_code, answer.json) == (503, {"status": "failure"})
    assert client.get(TRAFFIC, headers=outside).status_code == 503
    client.lost = None
    answer = client.get("/health/ready", headers=outside)
    assert (answer.status_code, answer.json) == (200, {"status": "success"})
    assert answer.headers["Cache-Control"] == "no-store"
