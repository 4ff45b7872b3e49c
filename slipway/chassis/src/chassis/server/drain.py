"""The drain, between SIGTERM and the end: when it started, and when the proxy learnt of it. Shared by the processes."""

import mmap
import struct
from time import monotonic

SETTLE = 0.3  # seconds from the proxy's knowing to its last request's arrival, on a busy machine

# Anonymous and shared: made before the fork, seen by every worker. Each 0.0 until it happens.
_times = mmap.mmap(-1, 16)
_STARTED, _KNOWN = 0, 8


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
