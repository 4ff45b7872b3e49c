"""The sources: which files count, what a change to each requires, and when to look.

What counts is what `stat` says about each file. inotify only says when to look, so an event that is missed or means
nothing never matters; where it stays silent, as on some mounts, the files are polled.
"""

import ctypes
import errno
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

Kind = Literal["code", "page", "style", "dependencies", "server"]

CODE = {".env", ".json", ".mako", ".py", ".toml", ".txt", ".yaml"}  # read when the app starts
PAGE = {".html", ".js", ".svg"}  # read at each request; whatever lies in a folder of PAGES, too
PAGES = ("/static/", "/templates/")
KIT = ("slipway/chassis", "slipway/devserver")
LEFT_OUT = {"__pycache__", "node_modules", "tests"}

EVENTS = 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x4  # close_write, moved_from, moved_to, create, delete, attrib
NONBLOCK, CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC

Stat = tuple[int, int, int]  # modified (ns), size, inode
Seen = dict[str, Stat]  # by path


class Sources:
    """The files of one service, of the libraries and of the root, as they were at the last look."""

    def __init__(self, root: Path, service: Path) -> None:
        self.root, self.service = root, service
        self.bundle = os.fspath(service / "ui")  # Vite watches it: it replaces a module, where we would reload the page
        self.folders: list[str] = []
        self.seen = self.look()

    def changes(self) -> dict[str, Kind]:
        """What was written, made or removed since the last look, by its path from the root."""
        before, self.seen = self.seen, self.look()
        changed = sorted({path for path, _ in before.items() ^ self.seen.items()})
        return {os.path.relpath(path, self.root): self.kind(path) for path in changed}

    def kind(self, path: str) -> Kind:
        inside = path.removeprefix(str(self.root))
        if inside.startswith("/slipway/devserver/") and inside.endswith(".py"):
            return "server"
        if inside.endswith(("/pyproject.toml", "/uv.lock")):
            return "dependencies"
        if suffix(inside) == ".css":
            return "style"
        return "page" if suffix(inside) in PAGE or any(part in inside for part in PAGES) else "code"

    def look(self) -> Seen:
        self.folders = [str(self.root)]
        found: Seen = {}
        for name in (".env", "pyproject.toml", "uv.lock"):
            found |= seen(self.root / name)
        for folder in (*self.root.glob("libs/*"), *map(self.root.joinpath, KIT), self.service):
            self.walk(folder, found)
        return found

    def walk(self, folder: str | os.PathLike[str], found: Seen) -> None:
        self.folders.append(os.fspath(folder))
        everything = any(part in f"{os.fspath(folder)}/" for part in PAGES)
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in LEFT_OUT or entry.name.endswith("~"):
                    continue  # editors' own files, bytecode
                if entry.path == self.bundle:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    self.walk(entry.path, found)
                elif everything or suffix(entry.name) in CODE | PAGE | {".css"}:
                    found |= seen(entry.path)


def seen(path: str | os.PathLike[str]) -> Seen:
    try:
        stat = os.stat(path)  # noqa: PTH116 - called for every file at every look
    except OSError:
        return {}
    return {os.fspath(path): (stat.st_mtime_ns, stat.st_size, stat.st_ino)}


def suffix(name: str) -> str:
    """`.py` of `a.py`, `.env` of `.env`."""
    return name[name.rfind(".") :]


class Inotify:
    """The kernel's notice that something happened in one of the folders. Raises OSError if there is no inotify."""

    def __init__(self) -> None:
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, "it exists only on Linux")
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = self.libc.inotify_init1(NONBLOCK | CLOEXEC)
        if self.descriptor < 0:
            raise self.error()
        self.watched: set[str] = set()

    def watch(self, folders: list[str]) -> None:
        for folder in set(folders) - self.watched:
            if self.libc.inotify_add_watch(self.descriptor, os.fsencode(folder), EVENTS) < 0 and (
                ctypes.get_errno() != 2  # gone again meanwhile
            ):
                raise self.error()
        self.watched = set(folders)

    def drain(self) -> None:
        """Discards the events, and forgets the watches if a folder came or went: a new one may take a former name."""
        with suppress(BlockingIOError):
            while data := os.read(self.descriptor, 65536):
                if any(mask & 0x8000 or mask & 0x40000000 for mask in masks(data)):  # IN_IGNORED, IN_ISDIR
                    self.watched.clear()

    def close(self) -> None:
        os.close(self.descriptor)

    def error(self) -> OSError:
        number = ctypes.get_errno()
        return OSError(number, os.strerror(number))


def masks(data: bytes) -> list[int]:
    """The event masks in what inotify(7) gave: `int wd; uint32_t mask, cookie, len; char name[len]` each."""
    found, offset = [], 0
    while offset < len(data):
        _, mask, _, length = struct.unpack_from("iIII", data, offset)
        found.append(mask)
        offset += 16 + length
    return found
