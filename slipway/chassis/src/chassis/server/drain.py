"""The drain, between SIGTERM and the end: when it started, and when the proxy learnt of it. Shared by the processes."""

import mmap
import signal
import struct
from collections.abc import Callable
from time import monotonic
from types import FrameType

SETTLE = 0.3  # seconds from the proxy's knowing to its last request's arrival, on a busy machine
LOOK = 0.1  # seconds between two looks at whether the drain is over

# Anonymous and shared: made before the fork, seen by every worker. Each 0.0 until it happens.
_times = mmap.mmap(-1, 16)
_STARTED, _KNOWN = 0, 8


def on_signal(delay: float, graceful: Callable[[], object], quick: Callable[[], object]) -> None:
    """On SIGTERM or SIGINT readiness turns 503. Once the proxy has seen that, `delay` seconds later at most, calls
    `graceful`.

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


def tell() -> None:
    """The proxy has been answered that this replica wants no more requests."""
    if started() and not _since(_KNOWN):
        struct.pack_into("d", _times, _KNOWN, monotonic())


def is_over(limit: float) -> bool:
    """Whether no request will come any more: the proxy knows, or if it never asked, `limit` seconds have passed."""
    return _since(_KNOWN) >= SETTLE or _since(_STARTED) >= limit


def _since(which: int) -> float:
    (time,) = struct.unpack_from("d", _times, which)
    return monotonic() - time if time else 0.0
