"""Restarts a program that serves nothing at every save: `python -m devserver.program`.

The former process stops as in production, after its round of work, so that two never run at once. If that takes over
GRACEFUL_TIMEOUT seconds, a second SIGTERM interrupts the round, and SIGKILL follows after as long again.
"""

import logging
import math
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic

from chassis.observe import logs
from devserver import dependencies, waiting
from devserver.sources import Kind, Sources

COMMAND = [sys.executable, "-m", "chassis.process.worker"]

log = logging.getLogger("dev")


def main() -> None:
    logs.configure(format="text")
    root = Path.cwd().parents[1]
    sys.exit(Restarter(root, Path.cwd(), waiting.setting(root)).run())


class Restarter:
    """Runs the program as it is saved now, until a signal says to stop."""

    def __init__(self, root: Path, service: Path, reload: str) -> None:
        self.selector = selectors.DefaultSelector()
        self.watch = waiting.Watch(Sources(root, service), self.selector, reload, self.follow)
        self.dependencies = dependencies.Declared(root)
        self.timeout = float(os.environ.get("GRACEFUL_TIMEOUT") or 2)
        self.process: subprocess.Popen[bytes] | None = None
        self.again = self.stopping = False
        self.due = math.inf  # when the program is told to end, or told again

    def run(self) -> int:
        """Returns the exit status: 0, since it was asked to stop."""
        self.signals = waiting.Signals(self.selector, self.asked_to_stop, lambda: None)
        self.watch.begin()
        self.watch.settled = self.again = True
        self.tend()
        while self.process or not self.stopping:
            for key, _ in self.selector.select(self.pause()):
                key.data()
            self.watch.look()
            self.tend()
        return 0

    def start(self) -> None:
        self.again, self.due = False, math.inf
        # A group of its own: Ctrl-C reaches this process alone, which sends the program SIGTERM, as at any other end.
        self.process = subprocess.Popen([*COMMAND, *sys.argv[1:]], process_group=0)
        if self.stopping:  # asked to stop since the last check
            self.end()

    def pause(self) -> float | None:
        times = [self.watch.pause(), max(0.0, self.due - monotonic()) if self.process else None]
        return min((each for each in times if each is not None and each < math.inf), default=None)

    def follow(self, changes: dict[str, Kind]) -> None:
        kinds = set(changes.values())
        if "dependencies" in kinds:
            for notice in self.dependencies.notices():
                log.warning(notice)
        if kinds - {"dependencies", "style"}:
            log.info("%s changed: restarting", waiting.named(changes))
            self.again = True
            self.end()

    def end(self) -> None:
        """Starts to end the program; one that was asked already gets the rest of its time."""
        if self.due == math.inf:
            self.due, self.means = 0.0, iter((signal.SIGTERM, signal.SIGTERM))

    def tend(self) -> None:
        """Checks whether the program has ended, and hurries it if it is late."""
        if self.process and self.process.poll() is not None:
            if self.due == math.inf:
                log.error("it ended by itself, with status %d: the next save restarts it", self.process.returncode)
            self.process = None
        if self.process and monotonic() >= self.due:
            self.process.send_signal(next(self.means, signal.SIGKILL))
            self.due = monotonic() + self.timeout
        if self.process is None and self.again and not self.stopping:
            self.start()

    def asked_to_stop(self, number: int, frame: object) -> None:
        self.end()
        if self.stopping:
            self.due, self.means = 0.0, iter(())
        self.stopping = True


if __name__ == "__main__":
    main()
