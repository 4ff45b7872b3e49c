"""A readiness check with a time limit."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

TIMEOUT = 2.0  # seconds; ready must tell the truth within three

Check = Callable[[], tuple[bool, str]]


class Unanswered(str):
    """The result of a check that raised or took too long, and so could not find out."""

    __slots__ = ()


class Bounded:
    """A check that answers within TIMEOUT, or the seconds given, and runs once at a time, however many callers wait.

    py-healthcheck's own timeout is SIGALRM, which only a main thread may use, and it returns the
    text of exceptions, which names hosts and users: this one returns the class's name.
    """

    def __init__(self, check: Check, name: str) -> None:
        self.check, self.__name__ = check, name
        self.pool: ThreadPoolExecutor | None = None
        self.running: Future[tuple[bool, str]] | None = None
        self.lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)

    def __call__(self, timeout: float | None = None) -> tuple[bool, str]:
        with self.lock:
            if self.running is None or self.running.done():
                self.pool = self.pool or ThreadPoolExecutor(1, thread_name_prefix=self.__name__)
                self.running = self.pool.submit(self.check)
            running = self.running
        try:
            return running.result(TIMEOUT if timeout is None else timeout)
        except Exception as error:
            return False, Unanswered(type(error).__name__)

    def _forget(self) -> None:
        """A fork inherits no threads, but perhaps a lock that no thread will release."""
        self.pool, self.running, self.lock = None, None, threading.Lock()
