"""What happened in the last quarter of an hour, in memory that the server's processes share.

Requests, errors and the database's round trips, in steps of ten seconds. Each process counts in a part
of its own, without a lock between them, and a reader adds the parts up; what a worker counted stays
when it ends. With over PARTS workers two share a part, and may now and then lose a count to each other.
"""

import mmap
import os
import struct
import threading
from operator import add
from time import time
from typing import NamedTuple

STEP = 10  # seconds
STEPS = 90
PARTS = 32


class Step(NamedTuple):
    """What was counted within ten seconds; `seconds` and `waited` are sums."""

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    pings: int = 0
    lost: int = 0
    waited: float = 0.0


_SLOT = struct.Struct("=qIIdIId")  # which step since 1970, then a Step
# Anonymous and shared: made before the fork, seen by every worker.
_memory = mmap.mmap(-1, _SLOT.size * STEPS * PARTS)
_lock = threading.Lock()


def count_request(seconds: float, failed: bool) -> None:
    _count(Step(1, failed, seconds))


def count_ping(seconds: float) -> None:
    """A round trip to the database."""
    _count(Step(pings=1, waited=seconds))


def count_lost_ping() -> None:
    """A round trip to the database that came to nothing."""
    _count(Step(lost=1))


def read() -> list[Step]:
    """The last STEPS steps, the oldest first; the last one is not over."""
    now = int(time()) // STEP
    sums = {step: Step() for step in range(now - STEPS + 1, now + 1)}
    for step, *counts in _SLOT.iter_unpack(_memory):
        if step in sums:
            sums[step] = Step(*map(add, sums[step], counts))
    return list(sums.values())


def _count(counts: Step) -> None:
    step = int(time()) // STEP
    place = (os.getpid() % PARTS * STEPS + step % STEPS) * _SLOT.size
    with _lock:
        known, *before = _SLOT.unpack_from(_memory, place)
        _SLOT.pack_into(_memory, place, step, *(map(add, before, counts) if known == step else counts))
