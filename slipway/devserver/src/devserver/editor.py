"""The app under an editor's debugger, `python -m devserver.editor`: one process, which waits for the editor.

The port speaks the Debug Adapter Protocol (microsoft.github.io/debug-adapter-protocol): VS Code, PyCharm and
others attach to it. Meanwhile a save restarts nothing, or the editor's current line would belong to another version of
the file. When the editor detaches, the app restarts with what was saved, and waits again.
"""

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import debugpy
from gunicorn.app.wsgiapp import WSGIApplication

from devserver.page import Broken

ATTACH = (
    "waiting for an editor at localhost:%s. VS Code: F5. PyCharm: the run configuration “Attach to DAP”. "
    "More: docs/debugging.md"
)

log = logging.getLogger("debug")


class Server(WSGIApplication):
    """gunicorn as the service configures it, but with one worker, which no timeout ends at a breakpoint."""

    def load_config(self) -> None:
        super().load_config()
        for name, value in {"workers": 1, "preload_app": False, "timeout": 0, "post_fork": wait}.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        try:
            return super().load()
        except BaseException as error:  # SystemExit too: whatever it is, the developer should see it
            log.exception("the app can't start")
            return Broken(Path.cwd().parents[1], error, [])


def wait(server: object, worker: Any) -> None:
    """Waits before the app is imported, so that a breakpoint works there, too."""
    host, _ = worker.cfg.address[0]
    debugpy.listen((host, int(os.environ["DEBUG_PORT"])), in_process_debug_adapter=True)
    log.info(ATTACH, os.environ["DEBUG_PORT"])
    debugpy.wait_for_client()
    threading.Thread(target=end_with_session, name="debug session", daemon=True).start()


def end_with_session() -> None:
    tick = threading.Event()
    while debugpy.is_client_connected():
        tick.wait(0.1)
    log.info("the editor has detached: restarting")
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.argv = ["gunicorn"]
    Server().run()
