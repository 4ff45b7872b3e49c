"""What a person does with notes in a browser."""

import re

import pytest

LONG_TITLE = "t" * 201


@pytest.fixture
def note(browser):
    """A note's path."""
    browser.send("/notes/new", title="Tide tables", body="High water 06:12.")
    return re.search(r'href="(/notes/\d+)"', browser.open("/notes").html)[1]


def test_the_first_page_leads_to_the_notes(browser):
    page = browser.open("/")
    assert 'href="/notes"' in page.html
    assert 'href="/api/notes"' in page.html


def test_without_the_database_the_list_is_unavailable_for_now(orphan):
    answer = orphan.get("/notes", headers={"Accept": "text/html"})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert "The database does not answer." in answer.text


def test_with_no_notes_the_list_invites_to_write_the_first(browser):
    page = browser.open("/notes")
    assert "No notes yet" in page.text
    assert 'href="/notes/new"' in page.html


def test_an_added_note_is_confirmed_and_stands_in_the_list(browser):
    page = browser.send("/notes/new", title="Tide tables", body="High water 06:12.")
    assert (page.status, page.path) == (200, "/notes")
    assert "“Tide tables” was added." in page.text
    assert "High water 06:12." in page.text
    assert "was added" not in browser.open("/notes").text  # said once


def test_sending_a_form_redirects_so_that_a_reload_repeats_nothing(client, browser):
    token = browser.open("/notes/new").token
    answer = client.post("/notes/new", data={"csrf_token": token, "title": "Once"})
    assert answer.status_code == 303


def test_a_note_shows_its_text_as_it_was_written(browser, note):
    page = browser.open(note)
    assert "Tide tables" in page.text
    assert "High water 06:12." in page.text


@pytest.mark.parametrize(
    ("field", "title", "body", "error"),
    [
        ("title", LONG_TITLE, "", "This has 201 characters; 200 is the most."),
        ("title", "", "kept", "This must not be empty."),
        ("title", " \t\u2003 ", "kept", "This must not be empty."),
        ("title", "a\0b", "kept", "This must be one line, without control characters."),
        ("body", "kept", "b" * 10_001, "This has 10,001 characters; 10,000 is the most."),
        ("body", "kept", "a\0b", "This must not contain NUL characters."),
    ],
)
def test_a_error_stands_beside_its_field_and_nothing_is_saved(browser, field, title, body, error):
    page = browser.send("/notes/new", title=title, body=body)
    assert page.status == 422
    assert error in page.describes(field)
    assert "Nothing was saved yet" in page.text
    assert "No notes yet" in browser.open("/notes").text


def test_what_was_typed_is_kept_when_it_is_refused(browser):
    page = browser.send("/notes/new", title=LONG_TITLE, body='\nA "quoted" <b>line</b>\r\nand another')
    assert page.value("title") == LONG_TITLE
    assert page.value("body").splitlines() == ["", 'A "quoted" <b>line</b>', "and another"]


def test_both_errors_are_told_at_once(browser):
    page = browser.send("/notes/new", title="", body="b" * 10_001)
    assert "must not be empty" in page.describes("title")
    assert "10,000 is the most" in page.describes("body")


def test_a_line_break_counts_as_one_character_though_browsers_send_two(browser):
    page = browser.send("/notes/new", title="Lines", body="\r\n" * 10_000)
    assert page.status == 200


def test_a_title_is_tidied_of_the_white_space_around_it(browser):
    assert "“Tidy” was added." in browser.send("/notes/new", title="  Tidy\t").text


def test_markup_in_a_note_is_text(browser):
    browser.send("/notes/new", title="<b>bold</b>", body="<script>alert(1)</script>")
    page = browser.open("/notes")
    assert "<b>bold</b>" in page.text
    assert "<script>" not in page.html


def test_pages_hold_no_script_and_no_style_of_their_own(browser, note):
    for path in ("/notes", "/notes/new", note, f"{note}/edit", f"{note}/delete"):
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:", browser.open(path).html)


@pytest.mark.parametrize("action", ["new", "1/edit", "1/delete"])
def test_a_form_without_its_token_changes_nothing(client, action):
    assert client.post(f"/notes/{action}", data={"title": "Forged"}).status_code == 400
    assert "Forged" not in client.get("/notes").text


def test_an_edited_note_shows_the_change(browser, note):
    assert browser.open(f"{note}/edit").value("title") == "Tide tables"
    page = browser.send(f"{note}/edit", title="Tides", body="High water 18:41.")
    assert page.path == note
    assert "“Tides” was saved." in page.text
    assert "High water 18:41." in page.text
    assert "changed" in page.text


def test_an_edit_that_is_refused_leaves_the_note_as_it_was(browser, note):
    page = browser.send(f"{note}/edit", title="", body="lost?")
    assert page.status == 422
    assert page.value("body") == "lost?"
    assert "Tide tables" in browser.open(note).text


def test_deleting_asks_first(browser, note):
    page = browser.open(f"{note}/delete")
    assert "Delete this note?" in page.text
    assert "Tide tables" in page.text
    assert browser.open(note).status == 200


def test_a_deleted_note_is_gone(browser, note):
    page = browser.send(f"{note}/delete")
    assert "“Tide tables” was deleted." in page.text
    assert browser.open(note).status == 404


def test_deleting_twice_says_that_there_is_no_such_note(client, browser, note):
    token = browser.open(f"{note}/delete").token
    answers = [client.post(f"{note}/delete", data={"csrf_token": token}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 404]


@pytest.mark.parametrize(
    "path",
    ["/notes/1", "/notes/0", "/notes/-1", "/notes/x", "/notes/01", "/notes/9223372036854775807",
     "/notes/9223372036854775808", "/notes/" + "9" * 5000, "/notes/1/edit", "/notes/1/delete"],
)  # fmt: skip
def test_a_note_that_is_not_there_is_a_404_page(browser, path):
    page = browser.open(path)
    assert page.status == 404
    assert "There is nothing here." in page.text


def test_the_list_is_newest_first_and_turns_over(make_app):
    client = make_app(notes_per_page=2).test_client()
    for number in range(1, 6):
        client.post("/api/notes", json={"title": f"Note {number}"})

    def titles(path: str) -> list[str]:
        return re.findall(r"Note \d", client.get(path).text)

    assert titles("/notes") == ["Note 5", "Note 4"]
    assert titles("/notes?page=2") == ["Note 3", "Note 2"]
    assert titles("/notes?page=3") == ["Note 1"]
    assert "Page 2 of 3" in client.get("/notes?page=2").text
    assert 'href="/notes?page=3"' in client.get("/notes?page=2").text
    assert 'rel="next"' not in client.get("/notes?page=3").text


def test_a_page_past_the_last_leads_to_the_last(client):
    answer = client.get("/notes?page=7")
    assert (answer.status_code, answer.location) == (302, "/notes?page=1")


@pytest.mark.parametrize("page", ["0", "-1", "x", "", "1.5", "٣", "9" * 5000])
def test_a_page_that_is_no_number_is_a_404(client, page):
    assert client.get("/notes", query_string={"page": page}).status_code == 404
