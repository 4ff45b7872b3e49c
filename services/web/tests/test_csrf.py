"""A form counts only with the token that its own page carried."""

import time

import pytest


def test_a_form_with_its_token_is_accepted(browser, form):
    assert browser.send(form).text == "accepted"


def test_a_form_without_a_token_is_refused_and_says_what_to_do(client, form):
    answer = client.post(form, headers={"Accept": "text/html"})
    assert answer.status_code == 400
    assert "reload the page and send it again" in answer.text


def test_a_token_of_another_persons_session_is_refused(app, browser, form):
    stolen, other = browser.open(form).token, app.test_client()
    other.get(form)
    assert other.post(form, data={"csrf_token": stolen}).status_code == 400


def test_a_form_left_open_for_a_day_can_still_be_sent(client, browser, form, monkeypatch):
    token, now = browser.open(form).token, time.time()
    monkeypatch.setattr("itsdangerous.timed.time.time", lambda: now + 24 * 3600)
    assert client.post(form, data={"csrf_token": token}).text == "accepted"


@pytest.mark.parametrize(
    ("referrer", "status"), [("https://evil.example/form", 400), ("https://example.org/form", 200)]
)
def test_over_https_a_form_is_accepted_from_this_site_only(client, form, referrer, status):
    https = {"base_url": "https://example.org"}
    token = client.get(form, **https).text.split('value="')[1].split('"')[0]
    answer = client.post(form, data={"csrf_token": token}, headers={"Referer": referrer}, **https)
    assert answer.status_code == status


def test_a_form_of_another_site_is_refused_with_a_page_whatever_its_token(client, browser, form):
    headers = {"Accept": "text/html", "Sec-Fetch-Site": "cross-site"}
    answer = client.post(form, data={"csrf_token": browser.open(form).token}, headers=headers)
    assert answer.status_code == 403
    assert "sent from another site" in answer.text
