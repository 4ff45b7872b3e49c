"""/robots.txt and /.well-known/security.txt, where settings say what is in them."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from chassis.settings import Settings, SettingsError
from chassis.web.setup import setup

SECURITY = "/.well-known/security.txt"


class Plain(Settings):
    uses_database = uses_secret_key = False


def ask(path, **environ):
    """The answer of an app that has a /robots.txt of its own, and a page at every other path."""
    app = Flask("sample")
    setup(app, Plain.load({"APP_ENV": "test", **environ}))
    app.add_url_rule("/robots.txt", "own", lambda: "the app's own")
    app.add_url_rule("/<path:path>", "page", lambda path: "a page")
    return app.test_client().get(path)


def test_without_the_settings_both_are_the_apps_own():
    for path, text in {"/robots.txt": "the app's own", SECURITY: "a page"}.items():
        answer = ask(path)
        assert answer.text == text
        assert "X-Robots-Tag" not in answer.headers


def test_crawlers_are_kept_out_of_the_whole_site_even_those_that_do_not_ask():
    answer = ask("/robots.txt", ROBOTS="disallow")
    assert answer.text == "User-agent: *\nDisallow: /\n"
    assert answer.content_type == "text/plain; charset=utf-8"
    assert ask("/any/page", ROBOTS="disallow").headers["X-Robots-Tag"] == "noindex"


def test_crawlers_are_let_in():
    answer = ask("/robots.txt", ROBOTS="allow")
    assert answer.text == "User-agent: *\nAllow: /\n"
    assert "X-Robots-Tag" not in answer.headers


def test_security_txt_names_every_contact_and_expires_within_a_year_of_being_read():
    answer = ask(SECURITY, SECURITY_CONTACT="mailto:security@shop.example, https://shop.example/report")
    assert answer.content_type == "text/plain; charset=utf-8"
    *contacts, expires = answer.text.splitlines()
    assert contacts == ["Contact: mailto:security@shop.example", "Contact: https://shop.example/report"]
    when = datetime.fromisoformat(re.fullmatch(r"Expires: (.+)", expires)[1])
    assert timedelta(days=90) < when - datetime.now(UTC) < timedelta(days=365)


def test_below_a_prefix_there_are_none_since_the_site_is_not_the_services():
    settings = {"URL_PREFIX": "/billing", "ROBOTS": "disallow", "SECURITY_CONTACT": "tel:+1-201-555-0123"}
    assert ask("/billing/robots.txt", **settings).text == "the app's own"
    assert ask("/billing/robots.txt", **settings).headers["X-Robots-Tag"] == "noindex"
    assert ask(f"/billing{SECURITY}", **settings).text == "a page"


@pytest.mark.parametrize("contact", ["security@shop.example", "http://shop.example", "mailto:a@b.example\nX: y"])
def test_a_contact_that_is_no_address_stops_the_start(contact):
    with pytest.raises(SettingsError, match="SECURITY_CONTACT must look like mailto:"):
        Plain.load({"APP_ENV": "test", "SECURITY_CONTACT": contact})
