"""The development server: a save restarts the app, and code that can't be imported is a page.

gunicorn's own reloader survives a SyntaxError only, misses a save made while the app loads, and
takes any file beside a watched one for a source.
"""

import html
import importlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic

from gunicorn import util

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{name}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ color: light-dark(#b3261e, #ff8a80); font-size: 1.5rem; overflow-wrap: anywhere; }}
pre {{ background: light-dark(#f6f6f4, #1e1e1c); padding: 1rem; overflow-x: auto; border-radius: .5rem; }}
</style>
<h1>{message}</h1><p>The app can't start. Mend the file and save: this page's next load is the app again.</p>
<pre>{stack}</pre></html>"""


INTERVAL = 0.05  # seconds between looks at the sources
SHARE = 0.05  # of a CPU that looking may take: a large tree is looked at less often
SOURCES = {".css", ".env", ".html", ".js", ".json", ".mako", ".py", ".svg", ".toml", ".txt", ".yaml"}
SERVED_ANEW = {".css", ".html", ".js", ".svg"}  # templates and static files need no restart

# What the server itself runs on, or what its processes share: a change there needs `make dev` anew.
KEPT = {"chassis", "chassis.dev", "chassis.drain", "chassis.logs", "chassis.metrics", "chassis.server"}

log = logging.getLogger("dev")


def load(target: str) -> Callable:
    """The WSGI app that `module:factory()` names, or one that shows why there is none.

    The sources are watched from before the first import on, so that no save is missed.
    """
    Watcher(Path.cwd().parents[1]).start()  # from services/web
    forget()
    try:
        return util.import_app(target)
    except BaseException as error:  # SystemExit too: whatever it is, the developer should see it
        log.exception("the app can't start")
        return broken(error)


class Watcher(threading.Thread):
    """Ends this worker, gracefully, when a source changes; gunicorn starts the next one at once.

    It polls: that works on every file system and mount, sees saves however an editor makes them,
    and at this size costs less than a hundredth of a CPU.
    """

    def __init__(self, repository: Path) -> None:
        super().__init__(name="watcher", daemon=True)
        self.repository = repository
        self.seen = self.look()

    def run(self) -> None:
        tick = threading.Event()
        while True:
            begun = monotonic()
            if changed := self.changed():
                log.info("%s changed: restarting", changed)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            tick.wait(max(INTERVAL, (monotonic() - begun) / SHARE))

    def changed(self) -> str | None:
        """A source that was written, made or removed since the last look, and that wants a restart."""
        before, self.seen = self.seen, self.look()
        for path, _ in sorted(before.items() ^ self.seen.items()):
            if suffix(path) not in SERVED_ANEW:
                return os.path.relpath(path, self.repository)
        return None

    def look(self) -> dict[str, int]:
        """When each source was last written, in nanoseconds."""
        found = times(self.repository / ".env")
        for folder in (*self.repository.glob("libs/*/src"), Path.cwd()):
            found |= walk(folder)
        return found


def walk(folder: str | os.PathLike) -> dict[str, int]:
    found: dict[str, int] = {}
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] in "._" and entry.name != "__init__.py":
                continue  # editors' own files, bytecode
            if entry.is_dir(follow_symlinks=False):
                found |= walk(entry.path)
            elif suffix(entry.name) in SOURCES:
                found |= times(entry.path)
    return found


def times(path: str | os.PathLike) -> dict[str, int]:
    try:
        return {os.fspath(path): os.stat(path).st_mtime_ns}  # noqa: PTH116 - called for every file, 20 times a second
    except OSError:
        return {}


def suffix(name: str) -> str:
    """`.py` of `a.py`, `.env` of `.env`."""
    return name[name.rfind(".") :]


def preload(module: str) -> None:
    """Imports, before the fork, each library that the app uses: a reload then loads our own code alone.

    Which ones they are is found out in a child, so that this process keeps none of our own modules.
    """
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        with suppress(BaseException):  # an app that is broken has imported some all the same
            importlib.import_module(module)
        with suppress(BaseException), os.fdopen(writer, "w") as out:
            out.write("\n".join(name for name in list(sys.modules) if not is_ours(name)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as names:
        libraries = names.read().split()
    os.waitpid(child, 0)
    for name in libraries:
        with suppress(Exception):
            importlib.import_module(name)


def forget() -> None:
    """Drops what this process inherited of our own code: the next import reads what was saved."""
    for name in [name for name in sys.modules if is_ours(name) and name not in KEPT]:
        del sys.modules[name]


def is_ours(name: str) -> bool:
    """Whether a module is the repository's: its file lies in a package's src/."""
    path = getattr(sys.modules.get(name), "__file__", None) or ""
    return path.startswith(str(Path.cwd().parents[1])) and "/src/" in path


def broken(error: BaseException) -> Callable:
    """An app that answers 500 with the traceback: as a page for browsers, else as plain text."""
    stack = "".join(traceback.format_exception(error))
    message = traceback.format_exception_only(error)[-1].strip()
    name = type(error).__name__
    page = PAGE.format(name=name, message=html.escape(message), stack=html.escape(stack))

    def app(environ: dict, start_response: Callable) -> list[bytes]:
        browser = "text/html" in environ.get("HTTP_ACCEPT", "")
        kind, text = ("html", page) if browser else ("plain", stack)
        headers = [("Content-Type", f"text/{kind}; charset=utf-8"), ("Cache-Control", "no-store")]
        start_response("500 Internal Server Error", headers)
        return [text.encode("utf-8", "replace")]

    return app
