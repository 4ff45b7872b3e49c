"""Locks between the processes of this checkout (flock(2)): each is released when its process ends, however it ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from slipway.commands import ROOT
from slipway.commands.shared.stop import Stop

PRODUCTION = ROOT / ".deploy.lock"


@contextmanager
def production() -> Iterator[IO[str]]:
    """Allows one deploy, restore, rotation or upgrade at a time: each treats unfinished work it finds as a leftover.

    Raises Stop if another is under way.
    """
    with PRODUCTION.open("a+") as lock:
        if not taken(lock):
            raise Stop("a deploy, a restore or a rotation is under way: wait for it to end")
        yield lock


@contextmanager
def shared(path: Path) -> Iterator[IO[str]]:
    """Held by all users of a thing at the same time; `taken` tells which of them is the last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield lock


def taken(lock: IO[str]) -> bool:
    """Whether this process now holds it alone; False if another holds it, too."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
