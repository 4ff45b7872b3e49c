"""What happened in the last quarter of an hour, in memory that the server's processes share.

Requests, errors and the database's round trips, in steps of ten seconds. Each process counts in its own part, without a
lock between processes, and a reader adds the parts up; a worker's counts stay when it ends. With more than PARTS
workers, two share a part and may occasionally lose a count.
"""

import mmap
import os
import struct
import sys
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
_REQUESTS, _PINGS = struct.calcsize("=q"), struct.calcsize("=qIId")  # the offsets of the _COUNTs in it
_COUNT = struct.Struct("=IId")
# Anonymous and shared: made before the fork, seen by every worker.
_memory = mmap.mmap(-1, _SLOT.size * STEPS * PARTS)
_lock = threading.Lock()


def count_request(seconds: float, failed: bool) -> None:
    _count(_REQUESTS, 1, failed, seconds)


def count_ping(seconds: float) -> None:
    """Counts a round trip to the database."""
    _count(_PINGS, 1, 0, seconds)


def count_lost_ping() -> None:
    """Counts a round trip to the database that failed."""
    _count(_PINGS, 0, 1, 0.0)


def read() -> list[Step]:
    """The last STEPS steps, oldest first; the last one is not over yet."""
    now = int(time()) // STEP
    sums = {step: Step() for step in range(now - STEPS + 1, now + 1)}
    for step, *counts in _SLOT.iter_unpack(_memory):
        if step in sums:
            sums[step] = Step(*map(add, sums[step], counts))
    return list(sums.values())


def _count(what: int, done: int, failed: int, seconds: float) -> None:
    step = int(time()) // STEP
    slot = (os.getpid() % PARTS * STEPS + step % STEPS) * _SLOT.size
    with _lock:
        if int.from_bytes(_memory[slot : slot + _REQUESTS], sys.byteorder) != step:
            _SLOT.pack_into(_memory, slot, step, *Step())
        counted = _COUNT.unpack_from(_memory, slot + what)
        _COUNT.pack_into(_memory, slot + what, counted[0] + done, counted[1] + failed, counted[2] + seconds)
