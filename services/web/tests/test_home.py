"""The first page shows a developer that the stack is alive, and tells a stranger very little."""

import re
import socket

import pytest

SECRET_KEY = "k" * 40


def test_the_page_names_what_answered(browser):
    page = browser.open("/")
    assert page.status == 200
    assert "web is up." in page.text
    assert f"Replica {socket.gethostname()}" in page.text
    assert "Database PostgreSQL 18" in page.text
    assert "ms" in page.text


def test_the_page_shows_its_own_request_id(client):
    answer = client.get("/")
    assert answer.headers["X-Request-ID"] in answer.text


def test_the_page_says_what_to_do_next(browser):
    page = browser.open("/")
    assert "services/web/src/web/templates/home.html" in page.text
    assert "Add a service" in page.text


def test_every_link_of_the_page_leads_somewhere(browser):
    links = set(re.findall(r'href="(/[^"]*)"', browser.open("/").html))
    assert {"/api/openapi.json", "/health/ready"} <= links
    assert {link: browser.open(link).status for link in links} == dict.fromkeys(links, 200)


def test_the_page_answers_and_says_so_when_the_database_is_unreachable(orphan):
    answer = orphan.get("/")
    assert answer.status_code == 200
    assert "its database is not" in answer.text
    assert "Unreachable" in answer.text
    assert "127.0.0.1:1" not in answer.text


def test_in_production_a_stranger_learns_the_name_and_the_version_only(make_app, monkeypatch):
    monkeypatch.setenv("VERSION", "1.2.3")
    page = make_app(app_env="production", secret_key=SECRET_KEY).test_client().get("/").text
    assert "web is up." in page
    assert "1.2.3" in page
    for private in (socket.gethostname(), "PostgreSQL", "Replica", "make service", "/health/ready"):
        assert f">{private}" not in page


@pytest.mark.parametrize("variable", ["SERVICE", "VERSION"])
def test_what_the_build_says_is_text_on_the_page_not_markup(browser, monkeypatch, variable):
    monkeypatch.setenv(variable, "<script>")
    assert "<script>" not in browser.open("/").html
