"""The drain, between SIGTERM and the end: when it started, when a proxy learnt of it, and when the last request came.
Shared by the processes.
"""

import mmap
import signal
import struct
from collections.abc import Callable
from time import monotonic
from types import FrameType

from chassis.observe import gauges
from chassis.observe.routes import is_polled

SETTLE = 0.3  # seconds without a request, once a proxy knows: more than one needs to arrive on a busy machine
LOOK = 0.1  # seconds between two looks at whether the drain is over

# Anonymous and shared: made before the fork, seen by every worker. Each 0.0 until it happens.
_times = mmap.mmap(-1, 24)
_STARTED, _KNOWN, _ASKED = 0, 8, 16


def on_signal(delay: float, graceful: Callable[[], object], quick: Callable[[], object]) -> None:
    """On SIGTERM or SIGINT readiness turns 503. Once a proxy has seen that and no request comes any more, `delay`
    seconds later at most, calls `graceful`.

    A server stops accepting the moment it is told to stop, while a proxy still sends requests until its next probe. So
    the signal is held back, with the listener open. A second signal calls `quick`, whatever is in flight.
    """

    def first(signum: int, frame: FrameType | None) -> None:
        start()
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: quick())
        if delay:
            signal.setitimer(signal.ITIMER_REAL, LOOK, LOOK)
        else:
            graceful()

    def look(signum: int, frame: FrameType | None) -> None:
        if is_over(delay):
            signal.setitimer(signal.ITIMER_REAL, 0)
            graceful()

    signal.signal(signal.SIGALRM, look)
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, first)


def start() -> None:
    struct.pack_into("d", _times, _STARTED, monotonic())


def started() -> bool:
    return _since(_STARTED) > 0


gauges.common["draining"] = "1 once the server was told to stop.", started


def tell() -> None:
    """A proxy has been answered that this replica wants no more requests."""
    if started() and not _since(_KNOWN):
        struct.pack_into("d", _times, _KNOWN, monotonic())


def request_came(target: str) -> bool:
    """Notes it while the drain lasts. Returns whether its connection has to be closed after the answer.

    A proxy that does not know yet, such as one on each node of a swarm, then sends the next one elsewhere, and does not
    lose it with a connection that ends with this process.
    """
    if not started():
        return False
    if not is_polled(target):
        struct.pack_into("d", _times, _ASKED, monotonic())
    return True


def is_over(limit: float) -> bool:
    """Whether no request will come any more: a proxy knows, and no other one has sent any for a while; or `limit`
    seconds have passed.
    """
    quiet = _since(_KNOWN) >= SETTLE and not 0 < _since(_ASKED) < SETTLE
    return quiet or _since(_STARTED) >= limit


def _since(which: int) -> float:
    (time,) = struct.unpack_from("d", _times, which)
    return monotonic() - time if time else 0.0
