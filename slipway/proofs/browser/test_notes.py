"""The sample's pages, used as people use them. Removed together with the sample."""

import re

import pytest
from playwright.sync_api import expect

LOOKS = {"light": {}, "dark and narrow": {"dark": True, "narrow": True}, "without JavaScript": {"script": False}}


@pytest.fixture(params=LOOKS.values(), ids=LOOKS)
def look(request):
    return request.param


@pytest.fixture
def readable(barriers):
    def check(page):
        assert barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{page.url} scrolls sideways"

    return check


def focus(page, name):
    """Presses the Tab key until the link, the button or the field of that name has the focus."""
    for _ in range(30):
        page.keyboard.press("Tab")
        here = page.locator(":focus")
        if here.count() and re.search(name, here.evaluate("e => e.labels?.[0]?.textContent ?? e.textContent")):
            return
    raise AssertionError(f"no Tab leads to {name!r}")


def enter(page):
    with page.expect_navigation():
        page.keyboard.press("Enter")


def test_an_empty_list_invites_to_write(development, visit, look, readable):
    page = visit(development.url + "/notes", **look)
    expect(page.get_by_role("heading", name="No notes yet")).to_be_visible()
    readable(page)


def test_a_note_is_written_and_edited_by_keyboard_alone(development, visit, look, readable):
    page = visit(development.url, **look)
    focus(page, "^Notes$")
    enter(page)
    focus(page, "^Write")
    enter(page)
    readable(page)
    focus(page, "Title")
    page.keyboard.type("Tie up the boat")
    focus(page, "Text")
    page.keyboard.type("Two hitches.")
    focus(page, "Save")
    enter(page)
    expect(page.get_by_role("status")).to_have_text("“Tie up the boat” was added.")
    readable(page)
    focus(page, "Tie up the boat")
    enter(page)
    readable(page)
    focus(page, "Edit")
    enter(page)
    focus(page, "Title")
    page.keyboard.press("Control+A")
    page.keyboard.type("Tie up both boats")
    enter(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Tie up both boats")
    focus(page, "Delete")
    enter(page)
    readable(page)
    focus(page, "Delete it")
    enter(page)
    expect(page.get_by_role("status")).to_have_text("“Tie up both boats” was deleted.")


def test_what_is_wrong_is_said_where_the_focus_is(development, visit, look, readable):
    page = visit(development.url + "/notes/new", **look)

    def save():
        page.goto(development.url + "/notes/new")
        page.get_by_label("Text").fill("A text without a title")
        with page.expect_navigation():
            page.get_by_role("button", name="Save").click()

    page.persist(save)
    title = page.get_by_label("Title")
    expect(title).to_be_focused()
    assert title.get_attribute("aria-invalid") == "true"
    expect(page.get_by_label("Text")).to_have_value("A text without a title")
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved yet")
    readable(page)


def test_the_api_is_described_and_can_be_tried(development, visit, look, readable):
    page = visit(development.url + "/api/docs", **look)
    readable(page)
    adding = page.get_by_role("region", name="Add a note", exact=True)
    expect(adding.get_by_role("region", name="In a shell")).to_contain_text(f"curl -X POST {development.url}/api/notes")
    if not look.get("script", True):
        expect(adding.get_by_text("Try it")).to_be_hidden()
        return
    adding.get_by_text("Try it").focus()
    page.keyboard.press("Enter")
    readable(page)
    adding.get_by_label("Body").fill('{"title": "Tried"}')
    adding.get_by_role("button", name="Send").click()
    expect(adding.get_by_role("status")).to_contain_text("201")
    expect(adding.get_by_role("status")).to_contain_text('"title": "Tried"')
    readable(page)


def test_with_the_database_away_the_list_says_so(development, visit, look, readable):
    development.stop_database()
    page = visit(development.url + "/notes", **look)
    expect(page.get_by_role("heading", level=1)).to_have_text("Not just now.")
    readable(page)
