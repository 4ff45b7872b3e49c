"""The drain, between SIGTERM and the end: when it started, shared by the server's processes."""

import mmap
import struct
from time import monotonic

# Anonymous and shared: made before the fork, seen by every worker. 0.0 until a drain starts.
_started = mmap.mmap(-1, 8)


def start() -> None:
    struct.pack_into("d", _started, 0, monotonic())


def started() -> bool:
    return bool(struct.unpack_from("d", _started)[0] > 0)


def seconds() -> float:
    """How long the drain has lasted; 0 if none has started."""
    return monotonic() - struct.unpack_from("d", _started)[0] if started() else 0.0
