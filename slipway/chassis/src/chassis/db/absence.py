"""Postgres away, as readiness finds it: known to all of a server's processes, so that their requests need not find out.

A short absence is waited out. One of over WAITED_OUT seconds lasts: from then on a request that needs a new connection
fails at once, and one that waits for a server that says nothing is ended, so that threads are left for what needs no
database. The first check that succeeds is the end of it.
"""

import mmap
from time import monotonic

WAITED_OUT = 4.0  # seconds from the start of the first check that failed: a restart takes one, three when busy
TRUST = 5.0  # seconds without a check, after which this knows nothing; a check takes three at most

SINCE, LAST, SILENT, MISSED = range(4)


class Absence:
    def __init__(self) -> None:
        # Anonymous and shared: made before the fork, seen by every worker. By the clock that all processes share.
        self.times = memoryview(mmap.mmap(-1, 32)).cast("d")

    def note(self, since: float, silent: bool) -> None:
        """A check that began then has failed; `silent` where the server has not even refused."""
        now = monotonic()
        if not self.times[SINCE] or now - self.times[LAST] > TRUST:
            self.times[SINCE] = since
        self.times[LAST] = now
        if silent:
            self.times[SILENT] = now

    def postpone(self) -> None:
        """A peer has the database: this replica gets no requests, and those that it has may wait for the network."""
        if self.times[SINCE]:
            self.times[SINCE] = monotonic()

    def end(self) -> None:
        if self.is_silent():
            self.times[MISSED] = monotonic()
        self.times[SINCE] = 0.0

    def lasts(self) -> bool:
        return bool(self.times[SINCE]) and self.times[SINCE] + WAITED_OUT < monotonic() < self.times[LAST] + TRUST

    def is_silent(self) -> bool:
        return self.lasts() and self.times[SILENT] > self.times[SINCE]

    def has_cut(self, used: float) -> bool:
        """Whether a connection that was last used then may lead nowhere: there was a long silence since."""
        return self.is_silent() or used < self.times[MISSED]
