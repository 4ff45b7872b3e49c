"""gunicorn's logs, passed to ours, and a line for each request."""

import logging
from collections.abc import Mapping, MutableMapping
from datetime import timedelta
from typing import Any

from gunicorn import glogging
from gunicorn.config import Config

from chassis.observe import logs, routes


class Logger(glogging.Logger):
    """Passes gunicorn's logs to ours. Lines are built from values: a format string makes broken JSON."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True

    def access(self, resp: Any, req: Any, environ: MutableMapping[str, Any], request_time: timedelta) -> None:
        status = resp.status if isinstance(resp.status, int) else resp.status_code  # the ASGI worker's, gthread's
        seconds = request_time.seconds + request_time.microseconds / 1e6
        write(self.access_log, environ, environ.get("RAW_URI", ""), status, getattr(resp, "sent", 0), seconds)


def write(log: logging.Logger, environ: Mapping[str, Any], path: str, status: int, sent: int, seconds: float) -> None:
    """Writes a request's line; `sent` is the size of the response's body in bytes."""
    if status < 400 and routes.is_polled(path):
        return
    method = environ.get("REQUEST_METHOD")
    fields = {
        "request_id": environ.get("chassis.request_id") or logs.request_id.get(),
        "method": method,
        "path": path,
        "status": status,
        "bytes": sent,
        "seconds": round(seconds, 4),
        "client": environ.get("REMOTE_ADDR"),
        "agent": environ.get("HTTP_USER_AGENT"),
    }
    logs.info(log, f"{method} {path} {status}", fields)
