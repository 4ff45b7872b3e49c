"""For programs that are no web server: stop on SIGTERM and SIGINT, and clean up.

    with program.until_signal() as stop:
        while not stop.wait(60):
            work()
    # here, or in a `finally`: close what was opened

Under gunicorn the server handles signals, and this is not for it.
"""

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chassis import logs
from chassis.settings import Settings

log = logging.getLogger("program")


@contextmanager
def until_signal(settings: Settings | None = None) -> Iterator[threading.Event]:
    """An event that the first SIGTERM or SIGINT sets; a second one ends the program at once.

    The first signal interrupts nothing: the work at hand is finished, then `wait()` returns True.
    The second raises SystemExit(128 + its number) wherever the main thread is, so `finally` still runs.
    """
    logs.configure(**({"level": settings.log_level, "format": settings.log_format} if settings else {}))
    stop = threading.Event()

    def handle(signum: int, frame: Any) -> None:
        if stop.is_set():
            sys.exit(128 + signum)
        stop.set()
        log.info("%s: stopping", signal.Signals(signum).name)

    former = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
