"""A pool that tells how long each connection was waited for, and who waits."""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter
from typing import ClassVar

from sqlalchemy import Engine
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

# Gets the begin and the end, by perf_counter, and what came instead of a connection.
Listener = Callable[[float, float, Exception | None], object]

# Seconds that this request has waited for its turn, elsewhere, before it asks for a connection: none or one.
turns: ContextVar[list[float] | None] = ContextVar("turns", default=None)


class Pool(QueuePool):
    _sqla_logger_namespace = "sqlalchemy.pool.QueuePool"  # its lines at INFO are SQLAlchemy's, which are not shown
    everywhere: ClassVar[list[Listener]] = []  # called for every pool of the process

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type] # SQLAlchemy's own
        self.listeners: list[Listener] = []  # called for this pool
        self.waiting: set[int] = set()  # what wants a connection: threads, and an event loop's tasks, by their ids

    def connect(self) -> PoolProxiedConnection:
        begun = perf_counter()
        if turn := turns.get():
            begun -= turn.pop()
        self.waiting.add(thread := threading.get_ident())
        failure = None
        try:
            return super().connect()
        except Exception as error:
            failure = error
            raise
        finally:
            self.waiting.discard(thread)
            self.tell(begun, failure)

    def tell(self, begun: float, failure: Exception | None) -> None:
        ended = perf_counter()
        for listener in (*self.listeners, *self.everywhere):
            listener(begun, ended, failure)

    def recreate(self) -> "Pool":
        new = super().recreate()
        assert isinstance(new, Pool)
        new.listeners, new.waiting = self.listeners, self.waiting
        return new


def pool_of(engine: Engine) -> Pool:
    """Another one after each `dispose`."""
    assert isinstance(engine.pool, Pool)
    return engine.pool
