"""What each process is busy with at the moment, in memory that the server's processes share.

Each process notes its own figures once a second, in a place of its own, so that they cost a request nothing; a reader
adds up those of the processes that live.
"""

import mmap
import os
import struct
from collections.abc import Callable, Iterator

PLACES = 64

# Each figure's name, and what it says.
FIGURES = {
    "http_requests_in_flight": "Requests that are being answered.",
    "http_threads": "Threads that answer requests.",
    "database_pool_size": "Connections to Postgres that requests may use.",
    "database_pool_in_use": "Connections to Postgres that requests use.",
    "database_pool_waiting": "Requests that wait for a connection to Postgres.",
}
_PLACE = struct.Struct(f"=q{len(FIGURES)}d")  # a process id, then its figures
# Anonymous and shared: made before the fork, seen by every worker.
_memory = mmap.mmap(-1, _PLACE.size * PLACES)

sources: dict[str, Callable[[], float]] = {}  # of this process, by the figure's name
common: dict[str, tuple[str, Callable[[], float]]] = {}  # others, which each process knows: what it says, and how much


def note() -> None:
    """Notes this process's figures, in the place that it has or in one that no living process has."""
    if not sources:
        return
    pid = os.getpid()
    for place in range(pid, pid + PLACES):
        offset = place % PLACES * _PLACE.size
        (owner,) = struct.unpack_from("=q", _memory, offset)
        if owner == pid or not owner or not lives(owner):
            _PLACE.pack_into(_memory, offset, pid, *(sources.get(name, _zero)() for name in FIGURES))
            return


def read() -> Iterator[tuple[str, str, float]]:
    """Each figure's name, what it says, and its sum over all living processes."""
    known = [figures for owner, *figures in _PLACE.iter_unpack(_memory) if owner and lives(owner)]
    if known:
        for (name, meaning), figures in zip(FIGURES.items(), zip(*known, strict=True), strict=True):
            yield name, meaning, sum(figures)
    for name, (meaning, figure) in common.items():
        yield name, meaning, figure()


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _zero() -> float:
    return 0.0
