"""The SQL of a request: each statement, its time, and the line of our code that ran it."""

import os
import re
import sys
from collections import Counter
from contextvars import ContextVar
from time import perf_counter
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sqlalchemy import Connection, ExceptionContext

COMMENT = re.compile(r"^/\* request_id=\S+ \*/ ")


class Statement(NamedTuple):
    text: str
    milliseconds: float
    place: str


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
    """Listens to every engine of this process, if the service has SQLAlchemy at all."""
    try:
        from sqlalchemy import Engine, event
    except ImportError:
        return

    def before(connection: "Connection", *_: object) -> None:
        connection.info["begun"] = perf_counter()

    def after(connection: "Connection", cursor: object, statement: str, *_: object) -> None:
        if (statements := _current.get()) is not None:
            spent = (perf_counter() - connection.info.pop("begun", perf_counter())) * 1000
            statements.append(Statement(COMMENT.sub("", statement), spent, place(root)))

    def failed(problem: "ExceptionContext") -> None:
        if (statements := _current.get()) is not None and problem.statement:
            statements.append(Statement(COMMENT.sub("", problem.statement), 0.0, place(root)))

    event.listen(Engine, "before_cursor_execute", before)
    event.listen(Engine, "after_cursor_execute", after)
    event.listen(Engine, "handle_error", failed)


def place(root: str) -> str:
    """The innermost line of a service's code that led here; empty if there is none."""
    frame: FrameType | None = sys._getframe(1)
    services = f"{root}/services/"
    while frame:
        if frame.f_code.co_filename.startswith(services):
            return f"{os.path.relpath(frame.f_code.co_filename, root)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
