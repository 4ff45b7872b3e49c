"""The request inspector, `/_dev/requests`: live, by keyboard, light and dark, over reloads."""

import httpx
import pytest
from playwright.sync_api import expect

from slipway.proofs.harness import wait_until

APP = "services/web/src/web/app.py"
VIEWS = """
    @app.get("/report")
    def report():
        import sqlalchemy
        from flask import render_template_string

        from chassis.web.database import session

        count = sqlalchemy.text("SELECT count(*) FROM pg_attribute WHERE attlen = :length")
        counts = [session().scalar(count, {"length": length}) for length in (1, 2, 4, 8, 16, 32)]
        app.logger.warning("the report took %s queries", len(counts))
        return render_template_string("<!doctype html><html><body>{{ counts }}</body></html>", counts=counts)

    @app.get("/fail")
    def fail():
        raise LookupError("<nothing here>")

    return app"""
LOOKS = {
    "light and wide": {},
    "dark and wide": {"dark": True},
    "light and narrow": {"narrow": True},
    "dark and narrow": {"dark": True, "narrow": True},
}


@pytest.fixture(scope="module")
def inspected(development):
    """The development site with a view that asks in a loop, and one that fails."""
    path = development.directory / APP
    path.write_text(path.read_text().replace("\n    return app", VIEWS))
    return development


def ask(site, path, **headers):
    return httpx.get(site.url + path, headers=headers, trust_env=False)


def tab_to(page, element):
    """Presses Tab until the element has the focus."""
    for _ in range(60):
        if element.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    pytest.fail(f"Tab does not lead to {element}")


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_request_appears_and_opens_and_its_statement_is_explained_by_keyboard(inspected, visit, barriers, look):
    def readable():
        assert barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    page = visit(f"{inspected.url}/_dev/requests", **look)
    page.get_by_text("Live:").wait_for()
    ask(inspected, f"/report?look={'-'.join(look)}")
    entry = page.get_by_role("link", name=f"/report?look={'-'.join(look)}", exact=False).first
    entry.wait_for()
    expect(entry).to_contain_text("SQL 6 in")
    expect(entry).to_contain_text("one 6 times")
    readable()

    tab_to(page, page.get_by_label("Filter"))
    page.keyboard.type("200 /report")
    page.keyboard.press("ArrowDown")
    expect(entry).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("heading", level=2, name="200 GET /report").wait_for()
    expect(page.get_by_text("The same statement 6 times")).to_be_visible()
    expect(page.locator(".box.warned")).to_contain_text(f"sent by {APP}:")
    expect(page.locator("details.log summary")).to_contain_text("the report took 6 queries")
    expect(page.locator("details.connection")).to_have_count(1)

    row = page.locator("details.sql summary").last
    tab_to(page, row)
    page.keyboard.press("Enter")
    expect(page.get_by_role("table", name="Parameters")).to_contain_text("32")
    tab_to(page, page.get_by_role("button", name="EXPLAIN"))
    page.keyboard.press("Enter")
    page.locator(".plan mark").wait_for()
    expect(page.locator(".plan mark")).to_contain_text("Seq Scan on pg_attribute")
    readable()
    page.keyboard.press("Escape")
    expect(entry).to_be_focused()


def test_it_goes_on_over_a_reload_and_keeps_what_was_before(inspected, visit):
    page = visit(f"{inspected.url}/_dev/requests")
    ask(inspected, "/report?before")
    page.get_by_role("link", name="/report?before").wait_for()
    page.evaluate("window.same = true")
    path = inspected.directory / APP
    path.write_text(path.read_text().replace("<body>{{", "<body>the new report {{"))
    wait_until("the new code", lambda: "the new report" in ask(inspected, "/report?after").text)
    page.get_by_role("link", name="/report?after").first.wait_for()
    page.get_by_role("link", name="/report?before").click()
    page.get_by_role("heading", level=2, name="/report?before").wait_for()
    page.locator("details.sql summary").first.click()
    page.get_by_role("button", name="EXPLAIN").click()
    page.locator(".plan mark").wait_for()
    assert page.evaluate("window.same")


def test_an_error_page_leads_to_its_request_and_that_to_the_debugger(inspected, visit, complaints):
    page = visit(f"{inspected.url}/fail?x=<i>")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="what this request did").click()
    requests = opened.value
    requests.get_by_role("heading", level=2, name="500 GET /fail?x=").wait_for()
    expect(requests.locator(".box.bad")).to_contain_text("LookupError: <nothing here>")
    requests.get_by_text("Traceback", exact=True).click()
    expect(requests.locator(".trace")).to_contain_text("in fail")
    with requests.expect_popup() as debugger:
        requests.get_by_role("link", name="Open it in the debugger").click()
    debugger.value.get_by_role("heading", level=1, name="LookupError").wait_for()
    complaints.clear()  # the page itself was a 500
