"""What chassis.web.asgi gives an ASGI app, called as its server would call it."""

import asyncio
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest

from chassis.observe import metrics
from chassis.settings import Settings
from chassis.web.asgi import Chassis


@pytest.fixture
def settings():
    class Plain(Settings):
        uses_database = uses_secret_key = False

    return Plain.load({"APP_ENV": "test"})


def answers(status=200):
    """An app that says hello."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    return app


def ask(app, method="GET", headers=(), path="/"):
    """The answer's messages, as the server gets them."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "scheme": "http"}
    with ThreadPoolExecutor(1) as thread:  # in this thread, a browser's tests may have left a loop
        asked = app({**scope, "headers": [(b"host", b"example.org"), *headers]}, receive, send)
        thread.submit(asyncio.run, asked).result()
    return sent


@pytest.mark.parametrize(
    ("method", "status", "series"),
    [
        ("XYZZY", 200, 'method="other",route="none",status="200"'),
        ("GET", 765, 'method="GET",route="none",status="other"'),
    ],
)
def test_what_a_client_or_an_app_makes_up_is_no_label_of_its_own(settings, method, status, series):
    ask(Chassis(answers(status), settings), method)
    text = metrics.text().decode()
    assert f"http_requests_total{{{series}}}" in text
    assert "XYZZY" not in text
    assert 'status="765"' not in text


def test_what_settings_say_to_crawlers_and_about_security_is_answered_in_its_place(settings):
    told = dataclasses.replace(settings, robots="disallow", security_contact="mailto:security@shop.example")
    expected = {"/robots.txt": b"Disallow: /", "/.well-known/security.txt": b"Contact: mailto:", "/": b"hello"}
    for path, text in expected.items():
        start, body = ask(Chassis(answers(), told), path=path)
        assert text in body["body"]
        assert (b"x-robots-tag", b"noindex") in start["headers"]
        assert ask(Chassis(answers(), settings), path=path)[1]["body"] == b"hello"
