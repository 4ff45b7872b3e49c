"""For programs that are not web servers: stop on SIGTERM and SIGINT, and clean up.

    with worker.until_signal() as stop:
        while not stop.wait(60):
            work()
    # here, or in a `finally`: close what was opened

`python -m chassis.process.worker` runs `main(settings, arguments)` from `main.py` of the package SERVICE, where
`arguments` is the list of words that follow; a worker loops over its rounds with `for number in worker.every(60)`. Not
for use under gunicorn, which handles signals itself.
"""

import importlib
import itertools
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from chassis.observe import logs, telemetry
from chassis.observe.exits import settings_or_exit
from chassis.process import heartbeat
from chassis.server import control
from chassis.settings import Settings

ROUND = 60.0  # seconds that a round of work may take before the health check fails

log = logging.getLogger("worker")


@contextmanager
def until_signal(settings: Settings | None = None) -> Iterator[threading.Event]:
    """An event that the first SIGTERM or SIGINT sets; a second one ends the program at once.

    The first signal interrupts nothing: the work at hand is finished, then `wait()` returns True.
    The second raises SystemExit(128 + its number) wherever the main thread is, so `finally` still runs.
    Logging follows the settings; without them, logging that is already configured stays as it is.
    """
    if settings:
        logs.configure(settings.log_level, settings.log_format)
    elif not logging.getLogger().handlers:
        logs.configure_early()
    stop = threading.Event()

    def handle(signum: int, frame: FrameType | None) -> None:
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


def every(seconds: float, round: float = ROUND) -> Iterator[int]:
    """Yields the numbers of rounds, `seconds` apart, until the first SIGTERM or SIGINT.

    Each round updates the heartbeat: a round of over `round` seconds turns the container unhealthy. In production they
    are counted, on `/metrics` at PORT.
    """
    from chassis.observe import rounds  # and with it prometheus_client, for workers alone

    def beat(within: float) -> None:
        heartbeat.beat(within)
        rounds.due(within)

    with until_signal() as stop:
        if os.environ.get("APP_ENV", "production") == "production":
            rounds.serve(int(os.environ.get("PORT") or "8000"))
        for number in itertools.count(1):
            beat(round)
            telemetry.begin("round")
            with rounds.measured():
                yield number
            telemetry.end()  # not where the loop was left: main() logs the exception, which then is the round's
            beat(seconds + round)
            if stop.wait(seconds):
                return


def main() -> None:
    """Wrong settings end it with one line, an exception from `main` with a traceback in the log; the exit code is 1
    then, else the one that `main` returns or passes to `sys.exit`."""
    settings, name = settings_or_exit(), os.environ["SERVICE"]
    control.listen(name)
    telemetry.start(settings)
    telemetry.begin("run")
    try:
        sys.exit(importlib.import_module(f"{name}.main").main(settings, sys.argv[1:]))
    except Exception:
        log.exception("%s failed", name)
        sys.exit(1)
    finally:
        telemetry.stop()


if __name__ == "__main__":
    main()
