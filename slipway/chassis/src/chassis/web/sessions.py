"""Database sessions for what an event loop runs: in threads, one for each connection of the pool.

A view awaits `in_session(function, …)`, which calls `function(session, …)` in a thread; what that returns must need the
session no more. With FastAPI, `Depends(session, scope="function")` gives it to a view made by `def`, which FastAPI runs
in a thread of its own.

A thread can't be cancelled: what ends it is that every wait for Postgres is bounded (waits.py), in the end by the
request's own limit. So a request waits for its turn without a thread, and with a thread never for a connection.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar, copy_context
from time import perf_counter
from typing import Concatenate, ParamSpec, TypeVar

import sqlalchemy
from sqlalchemy import event

from chassis.db.engine import Session as Session
from chassis.db.pool import pool_of, turns
from chassis.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

current: ContextVar["Sessions"] = ContextVar("sessions")  # the app's whose request this is


class Sessions:
    def __init__(self, engine: sqlalchemy.Engine, settings: Settings) -> None:
        self.engine, self.timeout = engine, settings.database_pool_timeout
        self.turns = asyncio.Semaphore(settings.web_threads)
        self.threads = ThreadPoolExecutor(settings.web_threads, thread_name_prefix="session")
        event.listen(engine, "before_cursor_execute", _refuse_in_a_loop)

    async def begin(self) -> Session:
        """A session, once it is its turn. Raises SQLAlchemy's TimeoutError after DATABASE_POOL_TIMEOUT."""
        pool, begun = pool_of(self.engine), perf_counter()
        pool.waiting.add(waits := id(asyncio.current_task()))
        try:
            await asyncio.wait_for(self.turns.acquire(), self.timeout)
        except TimeoutError:
            failure = sqlalchemy.exc.TimeoutError(f"no session was free within {self.timeout:g} s")
            pool.tell(begun, failure)
            raise failure from None
        finally:
            pool.waiting.discard(waits)
        turns.set([perf_counter() - begun])
        return Session(self.engine, close_resets_only=False)  # closed, it can't be used again

    def end(self, last: Callable[[], T]) -> Awaitable[T]:
        """Runs in a thread what ends with the session's close. The next turn begins then, even if none awaits it."""
        loop = asyncio.get_running_loop()

        def ended(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server stops
                loop.call_soon_threadsafe(self.turns.release)

        running = self.threads.submit(copy_context().run, last)
        running.add_done_callback(ended)
        return asyncio.wrap_future(running)


async def in_session(function: Callable[Concatenate[Session, P], T], *arguments: P.args, **options: P.kwargs) -> T:
    """Returns what `function(session, …)` returns, called in a thread. Nothing is written until its `commit()`.

    Raises what it raises, and SQLAlchemy's TimeoutError if all sessions are busy for DATABASE_POOL_TIMEOUT.
    """
    session = await (sessions := current.get()).begin()

    def work() -> T:
        with session:
            return function(session, *arguments, **options)

    return await sessions.end(work)


async def session() -> AsyncIterator[Session]:
    """A session for a view that runs in a thread, such as FastAPI's; closed when the view has returned."""
    session = await (sessions := current.get()).begin()
    try:
        yield session
    finally:
        await sessions.end(session.close)


def _refuse_in_a_loop(*_: object) -> None:
    """Raises RuntimeError where a statement would hold up every request of the process."""
    if asyncio._get_running_loop():
        raise RuntimeError("a statement in the event loop: run it by `await in_session(…)`, or in a view made by `def`")
