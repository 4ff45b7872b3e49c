"""What the development servers wait for: a save, and a signal."""

import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from types import FrameType

from dotenv import dotenv_values

from devserver.sources import Inotify, Kind, Sources

POLL = 0.05  # seconds between two looks without inotify
FALLBACK = 1.0  # the same, with inotify
SHARE = 0.05  # the part of a CPU that looking may take: a large tree is looked at less often
SETTLE = 0.005  # seconds from the first event to the look: one tick of the file system's clock, and a "save all"
SILENT = 2  # consecutive changes without an event, after which inotify is given up
RELOAD = ("auto", "inotify", "poll")
STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

log = logging.getLogger("dev")


def setting(root: Path) -> str:
    """How to look: RELOAD, from the environment or `.env`. Exits with one line if the value is unknown."""
    dotenv = dotenv_values(root / ".env")
    reload = os.environ.get("RELOAD") or dotenv.get("RELOAD") or "auto"
    forget(dotenv)
    if reload not in RELOAD:
        sys.exit(f"RELOAD must be one of {', '.join(RELOAD)}, not {reload!r}.")
    return reload


def forget(dotenv: dict[str, str | None]) -> None:
    """Removes what Compose has put from `.env` into the environment, where it would hide later changes to the file."""
    for name, value in dotenv.items():
        if os.environ.get(name) == value:
            del os.environ[name]


class Signals:
    """Wakes the selector at each signal: `asked` is called for a signal to stop, `heard` after any, SIGCHLD too."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        asked: Callable[[int, FrameType | None], None],
        heard: Callable[[], None],
    ) -> None:
        self.reader, self.writer = socket.socketpair()
        self.heard = heard
        for end in (self.reader, self.writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self.writer.fileno(), warn_on_full_buffer=False)
        for each in STOP:
            signal.signal(each, asked)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        selector.register(self.reader, selectors.EVENT_READ, self.wake)

    def wake(self) -> None:
        with suppress(BlockingIOError):
            self.reader.recv(4096)
        self.heard()


class Watch:
    """Looks at the sources when it is time, and hands what was saved to `follow`."""

    def __init__(
        self, sources: Sources, selector: selectors.BaseSelector, reload: str, follow: Callable[[dict[str, Kind]], None]
    ) -> None:
        self.sources, self.selector, self.follow = sources, selector, follow
        self.inotify = self.open() if reload != "poll" else None
        self.polled = reload != "inotify" or self.inotify is None
        self.settled = False  # once True, a save without an event counts against inotify
        self.due, self.silent = 0.0, 0

    def open(self) -> Inotify | None:
        try:
            inotify = Inotify()
            inotify.watch(self.sources.folders)
            return inotify
        except OSError as error:
            log.warning("looking at the sources at intervals, since inotify does not work here: %s", error.strerror)
            return None

    def begin(self) -> None:
        if self.inotify:
            self.selector.register(self.inotify.descriptor, selectors.EVENT_READ, self.look_now)

    def pause(self) -> float | None:
        """Seconds until the next look; None where an event alone brings it."""
        return max(0.0, self.due - monotonic()) if self.polled else None

    def look_now(self) -> None:
        sleep(SETTLE)
        if self.inotify:
            self.inotify.drain()
        self.due = 0.0
        if not self.polled:
            self.look(told=True)

    def look(self, told: bool = False) -> None:
        if not told and (not self.polled or monotonic() < self.due):
            return
        silent = self.due > 0  # no event has told us: the interval is over
        begun = monotonic()
        changes = self.sources.changes()
        if self.inotify:
            with suppress(OSError):
                self.inotify.watch(self.sources.folders)
        if changes:
            self.silent = self.silent + 1 if silent and self.settled else 0
        if self.inotify and self.polled and self.silent >= SILENT:
            self.give_up(self.inotify)
        spent = monotonic() - begun
        self.due = monotonic() + max(FALLBACK if self.inotify else POLL, spent / SHARE)
        if changes:
            self.follow(changes)

    def give_up(self, inotify: Inotify) -> None:
        """Looks found changes without an event, more often than by chance: this file system has no events."""
        log.info("inotify is silent here: looking at the sources every %g s (RELOAD=poll does so from the start)", POLL)
        self.selector.unregister(inotify.descriptor)
        inotify.close()
        self.inotify = None


def named(changes: dict[str, Kind]) -> str:
    """One changed file, and how many more there are."""
    return next(iter(changes)) + (f" and {len(changes) - 1} more" if len(changes) > 1 else "")
