"""`/notes`: pages for people. A form that was accepted redirects (303), so a reload repeats nothing."""

from collections.abc import Mapping
from datetime import UTC, datetime

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from chassis.web import validation
from chassis.web.validation import Invalid
from web.notes import models, rules, store
from web.notes.rules import NoteFields

blueprint = Blueprint("notes", __name__, url_prefix="/notes", template_folder="templates")

Answer = str | Response | tuple[str, int]


@blueprint.get("")
def index() -> Answer:
    page = store.page(page_number(), current_app.config["NOTES_PER_PAGE"])
    if page.number > page.last:  # its notes were removed since the link was made
        return redirect(url_for(".index", page=page.last))
    return render_template("notes/index.html", page=page)


@blueprint.get("/<id:note_id>")
def show(note_id: int) -> Answer:
    return render_template("notes/show.html", note=store.get(note_id))


@blueprint.route("/new", methods=["GET", "POST"])
def add() -> Answer:
    if request.method == "GET":
        return form({"title": "", "body": ""})
    try:
        note = store.add(submitted())
    except Invalid as error:
        return form(request.form, error.by_field)
    flash(f"“{note.title}” was added.")
    return redirect(url_for(".index"), 303)


@blueprint.route("/<id:note_id>/edit", methods=["GET", "POST"])
def edit(note_id: int) -> Answer:
    note = store.get(note_id)
    if request.method == "GET":
        return form({"title": note.title, "body": note.body}, note=note)
    try:
        note = store.change(note_id, submitted())
    except Invalid as error:
        return form(request.form, error.by_field, note)
    flash(f"“{note.title}” was saved.")
    return redirect(url_for(".show", note_id=note_id), 303)


@blueprint.route("/<id:note_id>/delete", methods=["GET", "POST"])
def delete(note_id: int) -> Answer:
    """A page that asks for confirmation, since there is no script to ask."""
    if request.method == "GET":
        return render_template("notes/delete.html", note=store.get(note_id))
    note = store.remove(note_id)
    flash(f"“{note.title}” was deleted.")
    return redirect(url_for(".index"), 303)


def page_number() -> int:
    """`?page=`, from 1. Raises NotFound for anything else."""
    text = request.args.get("page", "1")
    if not (text.isascii() and text.isdecimal() and 1 <= len(text) <= 9 and int(text)):
        abort(404, "There is no such page of notes.")
    return int(text)


def submitted() -> NoteFields:
    """The form's note. Raises Invalid."""
    title, body = request.form.get("title", ""), request.form.get("body", "")
    # Counted as the person who typed it counts: a line break, for which browsers send CRLF, is one character.
    values = {"title": title.strip(), "body": body.replace("\r\n", "\n")}
    return validation.check(NoteFields, values)


def form(
    values: Mapping[str, str], errors: Mapping[str | None, str] | None = None, note: models.Note | None = None
) -> Answer:
    """The form with what was typed, and with what is wrong beside each field."""
    status = 422 if errors else 200
    page = render_template("notes/form.html", values=values, errors=errors or {}, note=note, limits=rules)
    return page, status


@blueprint.app_template_filter()
def moment(time: datetime) -> str:
    """`20 November 2026, 18:41 UTC`."""
    utc = time.astimezone(UTC)
    return f"{utc.day} {utc:%B %Y, %H:%M} UTC"
