"""A pool that tells how long each connection was waited for, and by how many."""

import threading
from collections.abc import Callable
from time import perf_counter
from typing import ClassVar

from sqlalchemy.pool import PoolProxiedConnection, QueuePool

Listener = Callable[[float, float, Exception | None], object]  # gets begin and end by perf_counter, and what came instead


class Pool(QueuePool):
    everywhere: ClassVar[list[Listener]] = []  # called for every pool of the process

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type] # SQLAlchemy's own
        self.listeners: list[Listener] = []  # called for this pool
        self.waiting: set[int] = set()  # the threads that want a connection

    def connect(self) -> PoolProxiedConnection:
        if not self.listeners and not self.everywhere:
            return super().connect()
        begun = perf_counter()
        self.waiting.add(thread := threading.get_ident())
        failure = None
        try:
            return super().connect()
        except Exception as error:
            failure = error
            raise
        finally:
            self.waiting.discard(thread)
            ended = perf_counter()
            for tell in (*self.listeners, *self.everywhere):
                tell(begun, ended, failure)

    def recreate(self) -> "Pool":
        new = super().recreate()
        assert isinstance(new, Pool)
        new.listeners = self.listeners
        return new
