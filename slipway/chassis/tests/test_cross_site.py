"""A request that another site makes a browser send changes nothing; a program's request does."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from flask import Flask

from chassis.observe import request_id
from chassis.web import errors, security
from chassis.web.asgi import Chassis

PROXIED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "example.org:8443"}
OWN = "https://example.org:8443"


@pytest.fixture(params=["flask", "asgi"])
def ask(request, settings):
    """The status of a request, by way of a trusted proxy unless a host is given."""
    by = {"flask": by_flask, "asgi": by_asgi}[request.param]

    def status(method, headers, host=None, **changes):
        chosen = replace(settings, trusted_proxies=0 if host else 1, **changes)
        return by(chosen, method, {"Host": host or "inside:8000", **({} if host else PROXIED), **headers})

    return status


def by_flask(settings, method, headers):
    app = Flask("sample")
    for each in (request_id, errors):
        each.init_app(app)
    security.init_app(app, settings)
    methods = {"GET", "POST", "PUT", "PATCH", "DELETE", "XYZZY"}
    app.add_url_rule("/", "any", lambda: "done", methods=methods)
    return app.test_client().open("/", method=method, headers=headers).status_code


def by_asgi(settings, method, headers):
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    given = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": "/", "scheme": "http", "headers": given}
    with ThreadPoolExecutor(1) as thread:  # in this thread, a browser's tests may have left a loop
        thread.submit(asyncio.run, Chassis(app, settings)(scope, None, send)).result()
    return sent[0]["status"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": OWN},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://other.example.org:8443"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://example.org:8443"},
        {"Origin": "https://example.org"},
        {"Origin": "https://inside:8000"},
    ],
)
def test_what_another_site_sends_is_refused(ask, headers):
    methods = ("POST", "PUT", "PATCH", "DELETE", "XYZZY")
    assert [ask(method, headers) for method in methods] == [403] * 5


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin", "Origin": OWN},
        {"Sec-Fetch-Site": "none"},
        {"Origin": OWN},
        {"Origin": OWN.upper()},
    ],
)
def test_what_this_site_or_a_program_sends_is_taken(ask, headers):
    assert ask("POST", headers) == 200


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
def test_what_changes_nothing_is_open_to_all(ask, headers):
    assert ask("GET", headers) == 200


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "example.org"])
def test_without_a_proxy_the_host_that_was_asked_is_the_site(ask, host):
    assert ask("POST", {"Origin": f"http://{host}"}, host=host) == 200
    assert ask("POST", {"Origin": "http://elsewhere:8000"}, host=host) == 403


def test_a_port_that_goes_without_saying_is_no_other_site(ask):
    assert ask("POST", {"Origin": "http://example.org"}, host="example.org:80") == 200


def test_an_origin_that_is_trusted_may_send(ask):
    trusted = {"trusted_origins": "https://front.example, https://app.example:8443"}
    for origin in ("https://front.example", "https://app.example:8443"):
        assert ask("POST", {"Sec-Fetch-Site": "cross-site", "Origin": origin}, **trusted) == 200
    assert ask("POST", {"Sec-Fetch-Site": "cross-site", "Origin": "https://front.example:1"}, **trusted) == 403
