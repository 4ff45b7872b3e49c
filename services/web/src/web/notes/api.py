"""`/api/notes`: JSON in, JSON out; errors are problem details (RFC 9457) that list every error."""

from datetime import UTC, datetime
from typing import Annotated, Self

import msgspec
from flask import Blueprint, Response, current_app, url_for
from msgspec import UNSET, Meta, Struct, UnsetType

from chassis.web import validation
from chassis.web.openapi import operation
from web.notes import models, store
from web.notes.rules import NoteChanges, NoteFields

blueprint = Blueprint("notes_api", __name__, url_prefix="/api/notes")


class Note(Struct):
    """A note as it is stored. Times are in UTC."""

    id: int
    title: str
    body: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, note: models.Note) -> Self:
        created, updated = note.created_at.astimezone(UTC), note.updated_at.astimezone(UTC)
        return cls(note.id, note.title, note.body, created, updated)


class NoteList(Struct):
    """One page of notes, newest first, and how many there are in all."""

    items: list[Note]
    page: int
    per_page: int
    total: int


class ListQuery(Struct):
    """Which page, and how many notes on it (NOTES_PER_PAGE where it is left out)."""

    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    per_page: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET


@blueprint.get("")
@operation(
    "List notes, newest first",
    query=ListQuery,
    answer=NoteList,
    headers={"Link": "The first, previous, next and last page (RFC 8288)."},
    errors=(422,),
)
def list_notes() -> Response:
    query = validation.query(ListQuery)
    size = current_app.config["NOTES_PER_PAGE"] if query.per_page is UNSET else query.per_page
    page = store.page(query.page, size)
    notes = [Note.of(note) for note in page.notes]
    return answer(NoteList(notes, page.number, page.size, page.total), headers={"Link": links(page)})


@blueprint.post("")
@operation(
    "Add a note",
    body=NoteFields,
    status=201,
    answer=Note,
    headers={"Location": "The new note."},
    errors=(400, 413, 415, 422),
)
def add_note() -> Response:
    note = store.add(validation.check(NoteFields, validation.body()))
    place = url_for("notes_api.get_note", note_id=note.id)
    return answer(Note.of(note), 201, {"Location": place})


@blueprint.get("/<id:note_id>")
@operation("Get a note", answer=Note, errors=(404,))
def get_note(note_id: int) -> Response:
    return answer(Note.of(store.get(note_id)))


@blueprint.put("/<id:note_id>")
@operation("Replace a note", body=NoteFields, answer=Note, errors=(400, 404, 413, 415, 422))
def replace_note(note_id: int) -> Response:
    fields = validation.check(NoteFields, validation.body())
    return answer(Note.of(store.change(note_id, fields)))


@blueprint.patch("/<id:note_id>")
@operation("Change a note", body=NoteChanges, answer=Note, errors=(400, 404, 413, 415, 422))
def change_note(note_id: int) -> Response:
    changes = validation.check(NoteChanges, validation.body())
    return answer(Note.of(store.change(note_id, changes)))


@blueprint.delete("/<id:note_id>")
@operation("Remove a note", status=204, errors=(404,))
def remove_note(note_id: int) -> Response:
    store.remove(note_id)
    return Response(status=204)


def answer(value: Struct, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, mimetype="application/json")


def links(page: store.Page) -> str:
    """The Link header of a page: first and last always, previous and next where they exist."""
    numbers = {"first": 1, "prev": page.number - 1, "next": page.number + 1, "last": page.last}
    return ", ".join(
        f'<{url_for("notes_api.list_notes", page=number, per_page=page.size)}>; rel="{name}"'
        for name, number in numbers.items()
        if 1 <= number <= page.last
    )
