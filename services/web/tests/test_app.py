"""What holds for every page and answer of the app, whichever view gives it."""

import re

import pytest
from flask import request, session

SECRET_KEY = "k" * 40
BEHIND_PROXY = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "example.org",
}


def remember() -> str:
    session["who"] = "intruder"
    return ""


@pytest.fixture
def production(make_app):
    return make_app(app_env="production", secret_key=SECRET_KEY, trusted_proxies=1)


@pytest.mark.parametrize("path", ["/", "/nowhere", "/static/style.css", "/health/live"])
def test_every_answer_carries_one_request_id(client, path):
    assert len(client.get(path).headers.getlist("X-Request-ID")) == 1


def test_a_missing_page_is_designed_and_names_the_request(browser):
    page = browser.open("/nowhere")
    assert page.status == 404
    assert "There is nothing here." in page.text
    assert "Skip to the content" in page.text
    assert re.search(r"Request [0-9a-f]{32}", page.text)


def test_an_unexpected_error_shows_the_request_and_nothing_of_the_cause(app, browser):
    app.add_url_rule("/broken", view_func=lambda: 1 / 0)
    page = browser.open("/broken")
    assert page.status == 500
    assert "Something broke on our side." in page.text
    assert "ZeroDivisionError" not in page.html


def test_pages_hold_no_script_and_no_style_of_their_own(browser):
    for path in ("/", "/nowhere"):
        html = browser.open(path).html
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=|javascript:", html)


def test_pages_may_load_from_this_site_only(client):
    assert "default-src 'self'" in client.get("/").headers["Content-Security-Policy"]


def test_a_static_file_is_kept_for_a_year_under_the_url_that_pages_use(browser, client):
    url = re.search(r'href="(/static/style\.[0-9a-f]{8}\.css)"', browser.open("/").html)[1]
    assert client.get(url).headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_a_static_file_of_another_release_is_not_kept(client):
    answer = client.get("/static/style.00000000.css")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-cache"


def test_a_missing_static_file_is_a_404_that_is_not_kept(client):
    answer = client.get("/static/none.00000000.css")
    assert answer.status_code == 404
    assert "max-age" not in answer.headers.get("Cache-Control", "")


def test_a_body_over_one_mebibyte_is_refused(client, form):
    answer = client.post(form, data={"body": "x" * 1024 * 1024})
    assert answer.status_code == 413


def test_a_form_with_too_many_parts_is_refused(client, form):
    data = {f"field-{number}": (b"", "file") for number in range(101)}
    answer = client.post(form, data=data, content_type="multipart/form-data")
    assert answer.status_code == 413


def test_the_session_cookie_is_guarded_in_production(production):
    production.add_url_rule("/remember", view_func=remember)
    answer = production.test_client().get("/remember", base_url="https://example.org")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-session=")
    for guard in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert guard in cookie
    assert "Domain" not in cookie


def test_on_a_site_of_plain_http_the_session_cookie_is_one_that_browsers_take(production):
    production.add_url_rule("/remember", view_func=remember)
    cookie = production.test_client().get("/remember", headers={"X-Forwarded-Proto": "http"}).headers["Set-Cookie"]
    assert cookie.startswith("session=")
    assert "Secure" not in cookie
    assert "HttpOnly" in cookie


def test_without_a_trusted_proxy_the_session_cookie_stays_guarded(make_app):
    app = make_app(app_env="production", secret_key=SECRET_KEY)
    app.add_url_rule("/remember", view_func=remember)
    cookie = app.test_client().get("/remember", headers={"X-Forwarded-Proto": "http"}).headers["Set-Cookie"]
    assert cookie.startswith("__Host-session=")
    assert "Secure" in cookie


def test_sites_on_other_ports_of_the_same_host_have_session_cookies_of_their_own(production):
    production.add_url_rule("/remember", view_func=remember)
    answer = production.test_client().get("/remember", base_url="https://localhost:8443")
    assert answer.headers["Set-Cookie"].startswith("__Host-session-8443=")


def test_forwarding_headers_count_behind_as_many_proxies_as_are_trusted(production):
    production.add_url_rule("/who", view_func=lambda: f"{request.remote_addr} {request.url}")
    answer = production.test_client().get("/who", headers=BEHIND_PROXY)
    assert answer.text == "203.0.113.7 https://example.org/who"


def test_forwarding_headers_are_ignored_where_no_proxy_is_trusted(app, client):
    app.add_url_rule("/who", view_func=lambda: f"{request.remote_addr} {request.url}")
    answer = client.get("/who", headers=BEHIND_PROXY)
    assert answer.text == "127.0.0.1 http://localhost/who"


def test_a_session_cookie_signed_with_another_key_is_ignored(app, make_app):
    forger = make_app(secret_key="another-key")
    forger.add_url_rule("/remember", view_func=remember)
    forged = forger.test_client()
    forged.get("/remember")
    app.add_url_rule("/who", view_func=lambda: session.get("who", "a stranger"))
    client = app.test_client()
    client.set_cookie("session", forged.get_cookie("session").value)
    assert client.get("/who").text == "a stranger"


def test_a_method_that_a_client_makes_up_makes_no_series_of_its_own(client):
    client.open("/health/live", method="XYZZY")
    text = client.get("/metrics").get_data(as_text=True)
    assert "XYZZY" not in text
    assert 'http_requests_total{method="other"' in text


def test_an_answer_that_uses_no_session_sets_no_cookie_and_depends_on_none(client):
    answer = client.get("/health/live")
    assert "Set-Cookie" not in answer.headers
    assert "Cookie" not in answer.headers.get("Vary", "")
