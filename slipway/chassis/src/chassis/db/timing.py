"""Tells what each statement was, and how long it took: to the traces in production, to the inspector in development."""

from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, ExceptionContext, event


class Executed(NamedTuple):
    statement: str  # as it was sent, with the comment that carries the request's id
    parameters: Any
    begun: float  # by perf_counter
    ended: float
    rows: int  # that it returned or changed; -1 where the driver does not know
    error: BaseException | None
    sent: bytes | None  # with the parameters in it, where the driver says so


def listen(engines: Engine | type[Engine], done: Callable[[Executed], object]) -> None:
    """Calls `done` after each statement of one engine or, given the class, of all, in the statement's own thread."""
    key = object()  # each listener's own

    def before(connection: Connection, *_: object) -> None:
        connection.info[key] = perf_counter()

    def after(connection: Connection, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        ended = perf_counter()
        begun, sent = connection.info.pop(key, ended), getattr(cursor, "query", None)
        done(Executed(statement, parameters, begun, ended, cursor.rowcount, None, sent))

    def failed(context: ExceptionContext) -> None:
        if context.statement is not None:
            ended = perf_counter()
            begun = context.connection.info.pop(key, ended) if context.connection else ended
            done(Executed(context.statement, context.parameters, begun, ended, -1, context.original_exception, None))

    event.listen(engines, "before_cursor_execute", before)
    event.listen(engines, "after_cursor_execute", after)
    event.listen(engines, "handle_error", failed)
