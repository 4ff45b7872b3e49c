"""Writing entries and reading them."""

import pytest


def test_what_is_written_is_read_newest_first(client):
    for text in ("first", "<b>second</b>"):
        assert client.post("/api/entries", json={"text": text}).status_code == 201
    assert [entry["text"] for entry in client.get("/api/entries").json["items"]] == ["<b>second</b>", "first"]
    assert "&lt;b&gt;second" in client.get("/").text


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"text": 1}, {"text": "x" * 201}, {"text": "a\0b"}, []])
def test_what_is_no_entry_is_refused(client, body):
    assert client.post("/api/entries", json=body).status_code == 422
    assert client.get("/api/entries").json["items"] == []
