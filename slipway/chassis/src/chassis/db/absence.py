"""Whether Postgres is away, as readiness finds it: shared by a server's processes, so that no request has to find out.

Requests wait out a short absence. Once it has lasted over WAITED_OUT seconds, a request that needs a new connection
fails at once, and a request that waits for a silent server is ended, which leaves threads for requests that need no
database. The first check that succeeds ends the absence.
"""

import mmap
from time import monotonic

WAITED_OUT = 4.0  # seconds from the start of the first failed check: a restart takes one, three when busy
TRUST = 5.0  # seconds without a check after which the state is unknown; a check takes three at most

SINCE, LAST, SILENT, MISSED = range(4)


class Absence:
    def __init__(self) -> None:
        # Anonymous and shared: made before the fork, seen by every worker. Times are by a clock that they share.
        self.times = memoryview(mmap.mmap(-1, 32)).cast("d")

    def note(self, since: float, silent: bool) -> None:
        """Notes a failed check that began at `since`; `silent` if the server did not even refuse the connection."""
        now = monotonic()
        if not self.times[SINCE] or now - self.times[LAST] > TRUST:
            self.times[SINCE] = since
        self.times[LAST] = now
        if silent:
            self.times[SILENT] = now

    def postpone(self) -> None:
        """A peer has the database: this replica gets no new requests, and its current ones may wait for the network."""
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
        """Whether a connection last used at `used` may be dead, since the server was silent for long afterwards."""
        return self.is_silent() or used < self.times[MISSED]
