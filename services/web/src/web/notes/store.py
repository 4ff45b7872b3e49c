"""Reading and writing notes: the one place with SQL, behind the pages and the API alike."""

from dataclasses import dataclass

from msgspec import UNSET, structs
from sqlalchemy import func, select
from werkzeug.exceptions import NotFound

from chassis.web.database import session
from web.notes.models import Note
from web.notes.rules import NoteChanges, NoteFields


@dataclass(frozen=True)
class Page:
    """Notes newest first; pages count from 1, and one past the last is empty."""

    notes: list[Note]
    number: int
    size: int
    total: int

    @property
    def last(self) -> int:
        return max(1, -(-self.total // self.size))


def page(number: int, size: int) -> Page:
    newest_first = select(Note).order_by(Note.created_at.desc(), Note.id.desc())
    chosen = newest_first.offset((number - 1) * size).limit(size)
    total = session().scalar(select(func.count()).select_from(Note)) or 0
    return Page(list(session().scalars(chosen)), number, size, total)


def get(note_id: int) -> Note:
    """Raises NotFound."""
    return _found(note_id, session().get(Note, note_id))


def add(fields: NoteFields) -> Note:
    note = Note(**structs.asdict(fields))
    session().add(note)
    session().commit()
    return note


def change(note_id: int, changes: NoteFields | NoteChanges) -> Note:
    """Raises NotFound."""
    note = _locked(note_id)
    for name, value in structs.asdict(changes).items():
        if value is not UNSET:
            setattr(note, name, value)
    session().commit()
    return note


def remove(note_id: int) -> Note:
    """Returns the removed note. Raises NotFound."""
    note = _locked(note_id)
    session().delete(note)
    session().commit()
    return note


def _locked(note_id: int) -> Note:
    """Another change or removal waits: a second removal gets a 404, not an error."""
    return _found(note_id, session().get(Note, note_id, with_for_update=True))


def _found(note_id: int, note: Note | None) -> Note:
    if note is None:
        raise NotFound(f"There is no note {note_id}.")
    return note
