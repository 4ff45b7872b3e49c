"""Logs: one JSON object a line on stdout (https://12factor.net/logs), or text for people."""

import json
import logging
import os
import socket
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
HOST = socket.gethostname()
SERVICE = os.environ.get("SERVICE", "")

# What a LogRecord has of its own; everything else came in through `extra=`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}

# Of no use in a terminal, or in the access log's message already.
_NOT_IN_TEXT = {"agent", "bytes", "client", "method", "path", "status"}


class JSONFormatter(logging.Formatter):
    """One object a line: `time` (UTC, RFC 3339), `level`, `logger`, `message`, then the rest.

    ASCII only, so that no line break, escape sequence or broken UTF-8 in a value can reach the
    terminal or start a second line.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _timestamp(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "host": HOST,
        }
        if SERVICE:
            line["service"] = SERVICE
        if (current := request_id.get()) is not None:
            line["request_id"] = current
        line.update(_extra(record))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=repr)


class TextFormatter(logging.Formatter):
    """`12:00:00 INFO    web: message  key=value` for a terminal; control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        extra = "".join(f"  {key}={value}" for key, value in _extra(record).items() if key not in _NOT_IN_TEXT)
        text = f"{time} {record.levelname:7} {record.name}: {record.getMessage()}{extra}"
        text = "".join(char if char.isprintable() else _escape(char) for char in text)
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def configure(level: str = "INFO", format: str = "json") -> None:
    """Sends everything to stdout in one format, gunicorn's and warnings' lines included."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JSONFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    # py-healthcheck logs each failed check as an error, once a probe; health.py logs the change.
    logging.getLogger("healthcheck").setLevel(logging.CRITICAL)


def _timestamp(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra(record: logging.LogRecord) -> dict:
    return {key: value for key, value in vars(record).items() if key not in _OWN}


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
