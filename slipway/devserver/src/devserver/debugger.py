"""Werkzeug's interactive debugger, for this machine alone: a Python prompt in each frame of an error.

A client that reaches it runs code. So it requires all of: a connection from this machine, a Host that names this
machine (else any web page could point its own name here), no proxy in between, and the PIN from the log of `make dev`.
Any other client gets a 404.
"""

import ipaddress
import logging
import socket
import struct
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment

import werkzeug.debug
from werkzeug.debug import DebuggedApplication
from werkzeug.debug.tbtools import DebugTraceback
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

HOSTS = ["localhost", ".localhost", "127.0.0.1", "[::1]"]
FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_VIA")
KEPT = 10  # the latest errors
PATH = "/_dev/debugger"

# Its count of wrong PINs is shared by fork, like everything here. With Python's default start method since 3.14, the
# count would have a named semaphore, and each reload a process that tracks it and complains about it at the end.
werkzeug.debug.Value = get_context("fork").Value  # type: ignore[attr-defined]

logging.getLogger("werkzeug").setLevel(logging.INFO)  # it logs the PIN once the page is opened


class Debugger:
    """The errors of this worker, by their request's id, each with its frames still alive."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.errors: dict[str, DebugTraceback] = {}
        self.gateway = gateway(root)
        self.werkzeug = DebuggedApplication(self.page, evalex=True)
        self.werkzeug.trusted_hosts = HOSTS

    def keep(self, request_id: str, error: BaseException, contexts: list[AbstractContextManager[None]]) -> None:
        trace = self.errors[request_id] = DebugTraceback(error)
        for frame in trace.all_frames:
            self.werkzeug.frames[id(frame)] = frame
            self.werkzeug.frame_contexts[id(frame)] = contexts
        while len(self.errors) > KEPT:
            for frame in self.errors.pop(next(iter(self.errors))).all_frames:
                self.werkzeug.frames.pop(id(frame), None)
                self.werkzeug.frame_contexts.pop(id(frame), None)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = self.werkzeug if self.allows(environ) else NotFound()
        return answer(environ, start_response)

    def allows(self, environ: WSGIEnvironment) -> bool:
        return (
            self.is_here(environ.get("REMOTE_ADDR", ""))
            and self.werkzeug.check_host_trust(environ)
            and not any(name in environ for name in FORWARDED)
            and environ.get("HTTP_SEC_FETCH_SITE", "none") in ("none", "same-origin")
        )

    def is_here(self, address: str) -> bool:
        """Whether the peer is this machine: in a container, whose port the host publishes on its own
        loopback, that is the bridge's gateway."""
        with suppress(ValueError):
            return ipaddress.ip_address(address).is_loopback or address == self.gateway
        return False

    def page(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        wanted = parse_qs(environ.get("QUERY_STRING", "")).get("id", [""])[0]
        if not (trace := self.errors.get(wanted)):
            return NotFound("This error is gone: the code has been reloaded since.")(environ, start_response)
        trusted = bool(self.werkzeug.check_pin_trust(environ))
        html = trace.render_debugger_html(evalex=True, secret=self.werkzeug.secret, evalex_trusted=trusted)
        return Response(html, mimetype="text/html", headers={"Cache-Control": "no-store"})(environ, start_response)


def gateway(root: Path = Path("/")) -> str | None:
    """The default gateway of a container; None elsewhere, where it would be another router."""
    if not any((root / marker).exists() for marker in (".dockerenv", "run/.containerenv")):
        return None
    with suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/net/route").read_text().splitlines()[1:]:
            _, destination, address = line.split()[:3]
            if int(destination, 16) == 0:
                return socket.inet_ntoa(struct.pack("<I", int(address, 16)))  # as the kernel prints it
    return None
