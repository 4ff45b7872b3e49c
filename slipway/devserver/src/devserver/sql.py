"""The SQL of a request: each statement, its time, and the line of our code that ran it."""

import os
import re
import sys
from collections import Counter
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from chassis.db import timing

COMMENT = re.compile(r"^/\* (?:request|trace)_id=[^*]* \*/ ")


class Statement(NamedTuple):
    text: str
    milliseconds: float
    place: str
    begun: float  # by perf_counter
    parameters: Any
    rows: int  # -1 where the driver does not know
    error: str
    sent: bytes | None  # as Postgres got it, with its parameters


_current: ContextVar[list[Statement] | None] = ContextVar("statements", default=None)


def begin() -> list[Statement]:
    """A new list, to which the statements of this request are added."""
    statements: list[Statement] = []
    _current.set(statements)
    return statements


def current() -> list[Statement]:
    return _current.get() or []


def repeated(statements: list[Statement]) -> dict[str, int]:
    """How often each repeated statement ran, the most frequent first: a query in a loop stands out."""
    return {text: count for text, count in Counter(each.text for each in statements).most_common() if count > 1}


def summary(statements: list[Statement]) -> str:
    """`12 in 8.3 ms, one 10 times`."""
    text = f"{len(statements)} in {sum(each.milliseconds for each in statements):.1f} ms"
    if most := max(repeated(statements).values(), default=0):
        text += f", one {most} times"
    return text


def record(root: str) -> None:
    """Listens to every engine of this process."""
    from sqlalchemy import Engine

    from chassis.db import timing

    def done(each: "timing.Executed") -> None:
        if (statements := _current.get()) is not None:
            spent = (each.ended - each.begun) * 1000
            error = str(each.error).strip() if each.error else ""
            text = COMMENT.sub("", each.statement)
            known = text, spent, place(root), each.begun, each.parameters, each.rows, error, each.sent
            statements.append(Statement(*known))

    timing.listen(Engine, done)


def place(root: str) -> str:
    """The innermost line of a service's code that led here; empty if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame:
        if is_service(root, frame.f_code.co_filename):
            return f"{os.path.relpath(frame.f_code.co_filename, root)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def is_service(root: str, path: str) -> bool:
    return path.startswith(f"{root}/services/")
