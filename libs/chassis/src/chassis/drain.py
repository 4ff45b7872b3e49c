"""The drain: between SIGTERM and the end, one byte that the server's processes share."""

import mmap

_flag = mmap.mmap(-1, 1)  # anonymous and shared: made before the fork, seen by every worker


def start() -> None:
    _flag[0] = 1


def started() -> bool:
    return _flag[0] == 1
