"""What an operator asks of running processes, without a restart: another log level for a while, every thread's stack.

Each process listens on a socket of its own, in a folder for its user alone. Inside a container,

    python -m chassis.server.control level DEBUG 600
    python -m chassis.server.control stacks

asks all of its processes, and prints a line for each: a server's first process, its workers, a worker's or script's.
"""

import asyncio
import json
import logging
import os
import socket
import stat
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from time import sleep, time
from types import FrameType
from typing import Any

from chassis.observe import gauges
from chassis.server.watchdog import Watchdog

FOLDER = Path(tempfile.gettempdir()) / f"chassis-{os.getuid()}"
LEVEL = FOLDER / "level.json"  # the level that was asked for, and until when: for processes that start meanwhile, too
LONGEST = 86400.0  # seconds for which a level may be changed
OFTEN = 1.0  # seconds between two looks at the process's own figures, and at the level's time
ANSWER = 10.0  # seconds that a process may take to answer

log = logging.getLogger("control")


class Level:
    """This process's log level, which is another one than LOG_LEVEL for a while."""

    usual, until = "", 0.0

    def follow(self) -> str:
        """Takes the level that was asked for, while its time lasts. Returns what it is now."""
        name, until = "", 0.0
        with suppress(OSError, ValueError):
            name, until = json.loads(LEVEL.read_text())
        if until > time():
            self.usual = self.usual or logging.getLevelName(logging.getLogger().level)
            self.until = until
            _set(name)
            return f"{name} for {until - time():.0f} s, then {self.usual}"
        if self.usual:
            _set(self.usual)
            self.usual = ""
        return logging.getLevelName(logging.getLogger().level)

    def is_over(self) -> bool:
        """Whether it has to become the usual one again."""
        return bool(self.usual) and self.until <= time()


level = Level()  # one for all forks: each inherits what the usual level is


def _set(name: str) -> None:
    for each in ("", "gunicorn.error"):  # gunicorn gives its own log a level, too
        logging.getLogger(each).setLevel(name)


def listen(name: str, loop: asyncio.AbstractEventLoop | None = None, busy: bool = False) -> None:
    """Starts to listen, in a thread; call it in each process, after the fork, with its event loop if it has one. With
    `busy`, it has figures for `/metrics`, too.
    """
    server: socket.socket | None = None
    try:
        server = _open()
    except OSError as error:
        log.warning("this process can be asked for nothing: %s", error)
    level.follow()
    threading.Thread(target=_answer, args=(server, name, loop, busy), name="control", daemon=True).start()


def _open() -> socket.socket:
    """Raises OSError if the folder is not this user's alone, or its path is too long for a socket's."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    found = FOLDER.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{FOLDER} belongs to another user")
    for path in FOLDER.glob("[0-9]*"):
        if path.name == str(os.getpid()) or not gauges.lives(int(path.name)):
            path.unlink(missing_ok=True)  # of a process that was killed
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(FOLDER / str(os.getpid())))
    server.listen()
    server.settimeout(OFTEN)
    return server


def _answer(server: socket.socket | None, name: str, loop: asyncio.AbstractEventLoop | None, busy: bool) -> None:
    do: dict[str, Callable[[], str]] = {"level": level.follow, "stacks": lambda: _log_stacks(loop)}
    while True:
        if client := _client(server):
            with client, suppress(OSError):  # the one who asks may leave
                client.settimeout(ANSWER)
                said = do.get(client.makefile().readline().strip(), lambda: "that is not known here")()
                client.sendall(f"{name}, process {os.getpid()}: {said}\n".encode())
            continue
        if busy:
            gauges.note()
        if level.is_over():
            log.warning("the log level is %s again", level.follow())


def _client(server: socket.socket | None) -> socket.socket | None:
    """The one who asks; None after a while."""
    if server is None:
        sleep(OFTEN)
        return None
    with suppress(TimeoutError):
        return server.accept()[0]
    return None


def _log_stacks(loop: asyncio.AbstractEventLoop | None) -> str:
    found = [*_threads(), *_tasks(loop)]
    for fields in found:
        log.warning("a stack, as asked for", extra=fields)
    return f"{len(found)} stacks are in the log"


def _threads() -> Iterator[dict[str, str]]:
    """Of each other thread, the stack and the request that it serves."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            fields = {"of_thread": names.get(ident, str(ident)), "stack": _lines(traceback.walk_stack(frame))}
            if running := Watchdog.running.get(ident):
                fields |= {"method": running[1].method or "", "path": running[1].uri or ""}
            yield fields


def _tasks(loop: asyncio.AbstractEventLoop | None) -> Iterator[dict[str, str]]:
    """Of each task of the loop, where it waits, through all that it awaits."""
    for task in asyncio.all_tasks(loop) if loop else ():
        awaits: Any = task.get_coro()
        frames = []
        while awaits is not None:
            if frame := getattr(awaits, "cr_frame", None) or getattr(awaits, "ag_frame", None):
                frames.append((frame, frame.f_lineno))
            awaits = getattr(awaits, "cr_await", None) or getattr(awaits, "ag_await", None)
        yield {"of_task": task.get_name(), "stack": _lines(reversed(frames))}


def _lines(frames: Iterable[tuple[FrameType, int]]) -> str:
    """`flask/app.py:1536 wsgi_app`, the outermost first: short, since a log line has a limit."""
    places = [(frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in frames]
    return "\n".join(f"{_short(path)}:{line} {name}" for path, line, name in reversed(places))


def _short(path: str) -> str:
    for folder in ("/site-packages/", f"/python{sys.version_info.major}.{sys.version_info.minor}/"):
        _, found, rest = path.rpartition(folder)
        if found:
            return rest
    return path


def main(words: list[str]) -> int:
    """The exit status: 1 if no process answers."""
    match words:
        case ["level", name, seconds]:
            FOLDER.mkdir(mode=0o700, exist_ok=True)
            unfinished = LEVEL.with_suffix(f".{os.getpid()}")
            unfinished.write_text(json.dumps([name, time() + min(float(seconds), LONGEST)]))
            unfinished.replace(LEVEL)
        case ["stacks"]:
            pass
        case _:
            print("usage: level NAME SECONDS, or stacks")
            return 2
    said = [answer for path in FOLDER.glob("[0-9]*") if (answer := _ask(path, words[0]))]
    print("\n".join(sorted(said)) or "no process here can be asked")
    return 0 if said else 1


def _ask(address: Path, what: str) -> str:
    """What the process answers; nothing if it has ended."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER)
        try:
            connection.connect(str(address))
            connection.sendall(f"{what}\n".encode())
            return connection.makefile().readline().strip()
        except ConnectionRefusedError:
            return ""
        except OSError as error:
            return f"process {address.name}: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
