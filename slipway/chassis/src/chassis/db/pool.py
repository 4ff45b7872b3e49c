"""A pool that tells how long each connection was waited for, and by how many."""

import threading
from collections.abc import Callable
from time import perf_counter

from sqlalchemy.pool import PoolProxiedConnection, QueuePool


class Pool(QueuePool):
    tell: Callable[[float, Exception | None], object] | None = None  # called with the seconds, and what came instead

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type] # SQLAlchemy's own
        self.waiting: set[int] = set()  # the threads that want one

    def connect(self) -> PoolProxiedConnection:
        if not self.tell:
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
            self.tell(perf_counter() - begun, failure)

    def recreate(self) -> "Pool":
        new = super().recreate()
        assert isinstance(new, Pool)
        new.tell = self.tell
        return new
