"""gunicorn's logs, passed to ours."""

from collections.abc import MutableMapping
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
        path = environ.get("RAW_URI", "")
        status = resp.status if isinstance(resp.status, int) else resp.status_code  # the ASGI worker's, gthread's
        if status < 400 and routes.is_polled(path):
            return
        method = environ.get("REQUEST_METHOD")
        fields = {
            "request_id": environ.get("chassis.request_id") or logs.request_id.get(),
            "method": method,
            "path": path,
            "status": status,
            "bytes": getattr(resp, "sent", 0),
            "seconds": round(request_time.seconds + request_time.microseconds / 1e6, 4),
            "client": environ.get("REMOTE_ADDR"),
            "agent": environ.get("HTTP_USER_AGENT"),
        }
        logs.info(self.access_log, f"{method} {path} {status}", fields)
