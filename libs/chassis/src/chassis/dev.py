"""The development server's wrapper: code that can't be imported is a page with its traceback.

gunicorn's reloader survives a SyntaxError only: any other error while importing ends the server.
Here it is served, and the next good save recovers.
"""

import html
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

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


POLL = 0.3  # seconds


def load(target: str) -> Callable:
    """The WSGI app that `module:factory()` names, or one that shows why there is none."""
    restart_on_change(Path.cwd().parents[1] / ".env")  # from services/web
    forget(target.partition(".")[0].partition(":")[0])
    try:
        return util.import_app(target)
    except BaseException as error:  # SystemExit too: whatever it is, the developer should see it
        logging.getLogger("dev").exception("the app can't start")
        return broken(error)


def forget(package: str) -> None:
    """Drops what gunicorn.conf.py imported of the package: a forked worker inherits it unchanged by saves."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]


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


def restart_on_change(path: Path) -> None:
    """Restarts this worker when the file changes.

    Polled: gunicorn watches a file by its directory, and `.env` lies in the repository's root, where
    any other file would restart the app as well.
    """

    def watch() -> None:
        tick, before = threading.Event(), modified(path)
        while modified(path) == before:
            tick.wait(POLL)
        logging.getLogger("dev").info("%s changed: restarting", path)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="dotenv", daemon=True).start()


def modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
