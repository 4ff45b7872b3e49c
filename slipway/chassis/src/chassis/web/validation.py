"""Checks input against a msgspec Struct: reports all errors at once, each with its field and what is wrong.

msgspec stops at the first error; a person who fills in a form, and a program, want all of them.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from chassis.web.problems import Refused

T = TypeVar("T", bound=msgspec.Struct)

# An answer must not grow with the input, whose names and values are the sender's.
MAX_ERRORS = 20
MAX_NAME = MAX_REASON = 200  # characters


class Invalid(Refused):
    """422; `by_field` maps a field's name (None: the whole input) to what is wrong, a full sentence."""

    status = 422

    def __init__(self, by_field: dict[str | None, str]) -> None:
        errors = [pointer(name, detail) for name, detail in islice(by_field.items(), MAX_ERRORS)]
        count = "One value is" if len(by_field) == 1 else f"{len(by_field)} values are"
        more = len(by_field) - len(errors)
        super().__init__(f"{count} not valid." + (f" {more} of them are not named here." if more else ""))
        self.by_field, self.errors = by_field, errors


def check(kind: type[T], values: Mapping[str, Any], *, strict: bool = True) -> T:
    """The values as a `kind`; text may stand for numbers unless strict. Raises Invalid."""
    known = {each.encode_name: each for each in msgspec.structs.fields(kind)}
    by_field: dict[str | None, str] = {}
    valid = {}
    for name, each in known.items():
        if name in values:
            try:
                valid[each.name] = msgspec.convert(values[name], each.type, strict=strict)
            except msgspec.ValidationError as error:
                by_field[name] = explain(each.type, values[name], error)
        elif each.required:
            by_field[name] = "This is required."
    by_field |= {name: "There is no such field." for name in values if name not in known}
    if by_field:
        raise Invalid(by_field)
    return kind(**valid)


def decode(media_type: str, data: bytes) -> dict[str, Any]:
    """A body that must be a JSON object. Raises Refused (415, 400), and Invalid for JSON of another kind."""
    if media_type != "application/json":
        raise Refused("Send the body as application/json.", 415)
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise Refused("The body is nested too deeply.") from None
    if not isinstance(value, dict):
        raise Invalid({None: "The body must be an object."})
    return value


def parameters(kind: type[T], given: Mapping[str, Sequence[str]]) -> T:
    """The query's parameters as a `kind`, without those that it does not know. Raises Invalid."""
    known = [each.encode_name for each in msgspec.structs.fields(kind) if each.encode_name in given]
    try:
        if repeated := [name for name in known if len(given[name]) > 1]:
            raise Invalid(dict.fromkeys(repeated, "This must be given once."))
        return check(kind, {name: given[name][0] for name in known}, strict=False)
    except Invalid as error:
        error.errors = [{"parameter": name or "", "detail": text} for name, text in error.by_field.items()]
        raise


def body() -> dict[str, Any]:
    """The JSON object of Flask's request, see `decode`."""
    from flask import request

    return decode(request.mimetype, request.get_data())


def query(kind: type[T]) -> T:
    """The parameters of Flask's request, see `parameters`."""
    from flask import request

    return parameters(kind, dict(request.args.lists()))


def pointer(name: str | None, detail: str) -> dict[str, str]:
    """One of a problem's `errors` (RFC 9457, 3): where in the body, as a JSON pointer, and what."""
    place = "" if name is None else "/" + cut(name, MAX_NAME).replace("~", "~0").replace("/", "~1")
    return {"pointer": f"#{place}", "detail": detail}


def explain(kind: Any, value: Any, error: msgspec.ValidationError) -> str:
    """What is wrong with the value, in words for the person who typed it.

    A type with a `pattern` says what that means: `Meta(pattern=..., extra={"pattern": "This must ..."})`.
    """
    plain, extra = _unwrap(inspect.type_info(kind))
    match plain:
        case inspect.StrType() if not isinstance(value, str):
            return "This must be text."
        case inspect.StrType(max_length=int(most)) if len(value) > most:
            return f"This has {len(value):,} characters; {most:,} is the most."
        case inspect.StrType() if not value.strip():
            return "This must not be empty."
        case inspect.IntType(ge=int(least), le=int(most)):
            return f"This must be a whole number from {least:,} to {most:,}."
    return extra.get("pattern") or cut(f"{error}.", MAX_REASON)


def cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"


def _unwrap(kind: inspect.Type) -> tuple[inspect.Type, dict[str, Any]]:
    """The type itself and its `extra`."""
    if isinstance(kind, inspect.Metadata):
        return kind.type, kind.extra or {}
    return kind, {}
