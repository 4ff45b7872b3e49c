"""What all processes of the development server share: how new the code, the pages and the styles are."""

import mmap
import struct
import time
from typing import NamedTuple


class Stamp(NamedTuple):
    """Each part only ever grows, even from one start of `make dev` to the next."""

    code: int
    page: int
    style: int

    def __str__(self) -> str:
        return ".".join(map(str, self))


class State:
    """The stamp, in memory that is shared with every fork; one process writes."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 24)
        self.write(Stamp(*[int(time.time())] * 3))

    def read(self) -> Stamp:
        return Stamp(*struct.unpack("QQQ", self.memory[:24]))

    def write(self, stamp: Stamp) -> None:
        self.memory[:24] = struct.pack("QQQ", *stamp)

    def grow(self, part: str) -> Stamp:
        now = self.read()
        self.write(now._replace(**{part: getattr(now, part) + 1}))
        return self.read()
