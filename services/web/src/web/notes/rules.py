"""What makes a note valid: read by the form, by the API and by its OpenAPI description."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

MAX_TITLE = 200  # characters
MAX_BODY = 10_000

# Control characters, line breaks, and the byte order mark: none belongs in a line of text. Python
# and ECMAScript, whose patterns OpenAPI uses, also disagree on which of them \s means.
_CONTROL = r"\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff"

Title = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_TITLE,
        # Something besides white space; (?!\n) since Python's $ would let a last line break pass.
        pattern=rf"^[^{_CONTROL}]*[^\s{_CONTROL}][^{_CONTROL}]*$(?!\n)",
        extra={"pattern": "This must be one line, without control characters."},
        examples=["Mind the step"],
    ),
]
Body = Annotated[
    str,
    Meta(
        max_length=MAX_BODY,
        pattern=r"^[^\u0000]*$",  # which Postgres can't store
        extra={"pattern": "This must not contain NUL characters."},
        examples=["It is lower than it looks."],
    ),
]


class NoteFields(Struct, forbid_unknown_fields=True):
    """A note as it is written. White space around the title is removed."""

    title: Title
    body: Body = ""

    def __post_init__(self) -> None:
        self.title = self.title.strip()


class NoteChanges(Struct, forbid_unknown_fields=True):
    """What to change in a note; what is left out stays."""

    title: Title | UnsetType = UNSET
    body: Body | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.title is not UNSET:
            self.title = self.title.strip()
