"""What a program does with notes over JSON."""

from datetime import UTC, datetime, timedelta

import pytest

BIGINT = 2**63 - 1


@pytest.fixture
def add(client):
    """Adds a note and returns it."""
    return lambda title="Tide tables", **fields: client.post("/api/notes", json={"title": title, **fields}).json


def problem(answer) -> dict:
    """Checks what every problem has, and returns the problem that an error answer carries."""
    assert answer.content_type == "application/problem+json"
    body = answer.json
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert body["title"]
    assert body["detail"]
    return body


def test_an_added_note_is_answered_whole_with_where_it_is(client):
    answer = client.post("/api/notes", json={"title": "Tide tables", "body": "06:12"})
    assert answer.status_code == 201
    assert answer.json["title"] == "Tide tables"
    assert answer.json["body"] == "06:12"
    assert client.get(answer.headers["Location"]).json == answer.json


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
def test_a_note_that_another_site_makes_a_browser_send_is_refused(client, headers):
    answer = client.post("/api/notes", json={"title": "Tide tables"}, headers=headers)
    assert answer.status_code == 403
    assert problem(answer)["title"] == "Forbidden"
    assert client.get("/api/notes").json["total"] == 0


def test_times_are_in_utc(add):
    created = add()["created_at"]
    assert created.endswith("Z")
    assert datetime.now(UTC) - datetime.fromisoformat(created) < timedelta(minutes=1)


def test_a_body_may_be_left_out(add):
    assert add()["body"] == ""


@pytest.mark.parametrize("title", ["t" * 200, "Ünïcödé 🚢", "  tidied  ", "مرحبا"])
def test_an_unusual_but_valid_title_is_kept(client, add, title):
    note = add(title)
    assert client.get(f"/api/notes/{note['id']}").json["title"] == title.strip()


def test_a_note_with_a_long_title_is_refused_with_the_field_named(client):
    answer = client.post("/api/notes", json={"title": "t" * 201})
    assert answer.status_code == 422
    error = {"pointer": "#/title", "detail": "This has 201 characters; 200 is the most."}
    assert problem(answer)["errors"] == [error]


@pytest.mark.parametrize("keys", [[f"{number:05}" for number in range(60_000)], ["\x00" * 150_000], ["é" * 150_000]])
def test_of_many_errors_or_long_names_an_answer_tells_only_so_much(client, keys):
    answer = client.post("/api/notes", json={"title": 7} | dict.fromkeys(keys))
    assert answer.status_code == 422
    assert len(answer.data) < 10_000
    told = problem(answer)["errors"]
    assert told[0] == {"pointer": "#/title", "detail": "This must be text."}
    assert len(told) == min(20, 1 + len(keys))
    assert f"{1 + len(keys)} values are not valid" in answer.json["detail"]


def test_every_error_is_told_at_once(client):
    answer = client.post("/api/notes", json={"title": 7, "body": "b" * 10_001, "colour/~": "red"})
    assert answer.status_code == 422
    assert {each["pointer"]: each["detail"] for each in problem(answer)["errors"]} == {
        "#/title": "This must be text.",
        "#/body": "This has 10,001 characters; 10,000 is the most.",
        "#/colour~1~0": "There is no such field.",
    }


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({}, "#/title", "This is required."),
        ({"title": ""}, "#/title", "This must not be empty."),
        ({"title": " \n\u2003"}, "#/title", "This must not be empty."),
        ({"title": None}, "#/title", "This must be text."),
        ({"title": "a\0b"}, "#/title", "This must be one line, without control characters."),
        ({"title": "a\nb"}, "#/title", "This must be one line, without control characters."),
        ({"title": "ends\n"}, "#/title", "This must be one line, without control characters."),
        ({"title": "\x1b[2J"}, "#/title", "This must be one line, without control characters."),
        ({"title": "t", "body": "a\0b"}, "#/body", "This must not contain NUL characters."),
        ({"title": "t", "body": None}, "#/body", "This must be text."),
        ({"title": "t", "id": 7}, "#/id", "There is no such field."),
        ({"title": "t", "": "empty"}, "#/", "There is no such field."),
        ([], "#", "The body must be an object."),
        ("title", "#", "The body must be an object."),
    ],
)
def test_a_error_is_told_with_where_it_is(client, body, pointer, detail):
    answer = client.post("/api/notes", json=body)
    assert answer.status_code == 422
    assert problem(answer)["errors"] == [{"pointer": pointer, "detail": detail}]


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"{'title': 1}", b'{"title": "\xff"}', b'{"title": "\\ud800"}', b"[" * 100_000,
     b'{"title": 1e999}', b"NaN"],
)  # fmt: skip
def test_what_is_not_json_is_refused_as_such(client, data):
    answer = client.post("/api/notes", data=data, content_type="application/json")
    assert answer.status_code == 400
    assert problem(answer)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_body_of_another_type_is_refused(client, kind):
    answer = client.post("/api/notes", data=b'{"title": "t"}', content_type=kind)
    assert answer.status_code == 415
    assert "application/json" in problem(answer)["detail"]


def test_a_body_over_one_mebibyte_is_refused(client):
    answer = client.post("/api/notes", json={"title": "t" * 1024 * 1024})
    assert answer.status_code == 413
    assert problem(answer)


def test_replacing_a_note_sets_what_was_left_out_to_its_default(client, add):
    note = add(body="gone soon")
    answer = client.put(f"/api/notes/{note['id']}", json={"title": "New"})
    assert answer.status_code == 200
    assert (answer.json["title"], answer.json["body"]) == ("New", "")


def test_changing_a_note_leaves_alone_what_was_left_out(client, add):
    note = add(body="stays")
    answer = client.patch(f"/api/notes/{note['id']}", json={"title": "New"})
    assert (answer.json["title"], answer.json["body"]) == ("New", "stays")
    assert answer.json["created_at"] == note["created_at"]
    assert answer.json["updated_at"] > note["updated_at"]


@pytest.mark.parametrize("method", ["put", "patch"])
def test_a_change_is_held_to_the_same_rules(client, add, method):
    note = add()
    answer = getattr(client, method)(f"/api/notes/{note['id']}", json={"title": "t" * 201})
    assert answer.status_code == 422
    assert problem(answer)["errors"][0]["pointer"] == "#/title"
    assert client.get(f"/api/notes/{note['id']}").json == note


def test_a_removed_note_is_gone_and_can_be_removed_once(client, add):
    place = f"/api/notes/{add()['id']}"
    answer = client.delete(place)
    assert (answer.status_code, answer.data) == (204, b"")
    assert client.get(place).status_code == 404
    assert client.delete(place).status_code == 404


@pytest.mark.parametrize("note_id", ["1", "0", "-1", "x", "1.0", BIGINT, BIGINT + 1, "9" * 5000])
def test_a_note_that_is_not_there_is_a_404(client, note_id):
    place = f"/api/notes/{note_id}"
    answers = [client.get(place), client.delete(place), client.patch(place, json={})]
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert all(problem(answer) for answer in answers)


def test_a_method_that_is_not_there_is_refused_with_those_that_are(client):
    answer = client.delete("/api/notes")
    assert answer.status_code == 405
    assert {"GET", "POST"} <= set(answer.allow)
    assert problem(answer)


def test_the_list_is_newest_first_with_how_many_there_are(client, add):
    for number in range(1, 6):
        add(f"Note {number}")
    body = client.get("/api/notes?page=2&per_page=2").json
    assert [note["title"] for note in body["items"]] == ["Note 3", "Note 2"]
    assert (body["page"], body["per_page"], body["total"]) == (2, 2, 5)


def test_the_list_links_to_its_other_pages(client, add):
    for number in range(5):
        add(f"Note {number}")
    assert client.get("/api/notes?page=2&per_page=2").headers["Link"].split(", ") == [
        '</api/notes?page=1&per_page=2>; rel="first"',
        '</api/notes?page=1&per_page=2>; rel="prev"',
        '</api/notes?page=3&per_page=2>; rel="next"',
        '</api/notes?page=3&per_page=2>; rel="last"',
    ]
    alone = client.get("/api/notes").headers["Link"]
    assert "prev" not in alone
    assert "next" not in alone


def test_every_note_is_on_exactly_one_page_though_all_are_of_one_moment(app, client):
    with app.extensions["database"].engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO notes (title) SELECT 'n' FROM generate_series(1, 7)")
    pages = [client.get(f"/api/notes?page={page}&per_page=3").json["items"] for page in (1, 2, 3)]
    found = [note["id"] for page in pages for note in page]
    assert len(found) == 7
    assert found == sorted(found, reverse=True)


def test_a_page_past_the_last_is_empty(client, add):
    add()
    answer = client.get("/api/notes?page=1000000&per_page=100")
    assert (answer.status_code, answer.json["items"], answer.json["total"]) == (200, [], 1)


@pytest.mark.parametrize("name", ["page", "per_page"])
@pytest.mark.parametrize("value", ["0", "-1", "x", "", "1.5", "1000001", "9" * 5000, "1,000"])
def test_a_page_that_can_not_be_is_refused_with_the_parameter_named(client, name, value):
    answer = client.get("/api/notes", query_string={name: value})
    assert answer.status_code == 422
    (error,) = problem(answer)["errors"]
    assert error["parameter"] == name
    assert error["detail"].startswith("This must be a whole number from 1 to ")


def test_a_parameter_that_is_given_twice_is_refused(client):
    answer = client.get("/api/notes?page=1&page=2")
    assert answer.status_code == 422
    assert problem(answer)["errors"] == [{"parameter": "page", "detail": "This must be given once."}]


def test_how_many_notes_a_page_holds_is_a_setting(make_app):
    client = make_app(notes_per_page=3).test_client()
    assert client.get("/api/notes").json["per_page"] == 3


def test_errors_are_problems_whatever_the_client_accepts(client):
    answer = client.get("/api/notes/1", headers={"Accept": "text/html"})
    assert problem(answer)["detail"] == "There is no note 1."


def test_without_the_database_the_api_is_unavailable_for_now(orphan):
    answer = orphan.get("/api/notes")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert problem(answer)


def test_the_apps_role_can_not_change_the_schema(app):
    with app.extensions["database"].engine.connect() as connection, pytest.raises(Exception, match="must be owner"):
        connection.exec_driver_sql("DROP TABLE notes")
