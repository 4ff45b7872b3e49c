"""Logs: one JSON object per line on stdout (https://12factor.net/logs), or text for people."""

import json
import logging
import os
import socket
import stat
import sys
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from time import monotonic, sleep, time

import msgspec

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)  # where traces are on
PIPE_BUF = 4096  # bytes, Linux
TEXT_LIMITS = (2500, 1000, 400, 100, 30)  # characters of one value, tried on a line that is too long
HOST = socket.gethostname()
SERVICE = os.environ.get("SERVICE", "")

# A LogRecord's own attributes; all others come from `extra=`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "color_message",
}

_PLAIN = frozenset({str, int, float, bool, type(None)})

# Of no use in a terminal, or already in the access log's message.
_NOT_IN_TEXT = {"agent", "bytes", "client", "method", "path", "status"}


class JSONFormatter(logging.Formatter):
    """One object per line: `time` (UTC, RFC 3339), `level`, `logger`, `message`, then the rest.

    ASCII only, so that no line break, escape sequence or broken UTF-8 in a value can reach the
    terminal or start a second line.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = _line(record.created, record.levelname, record.name, record.getMessage())
        line.update(_extra(record))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return _encode(line).decode()


class TextFormatter(logging.Formatter):
    """`12:00:00 INFO    web: message  key=value` for a terminal; control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        extra = "".join(f"  {key}={value}" for key, value in _extra(record).items() if key not in _NOT_IN_TEXT)
        text = f"{clock} {record.levelname:7} {record.name}: {record.getMessage()}{extra}"
        text = "".join(char if char.isprintable() else _escape(char) for char in text)
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class PipeHandler(logging.Handler):
    """Writes lines to a pipe and never waits for its reader: if the pipe is full, it drops lines and logs how many.

    It writes at most PIPE_BUF bytes at a time, since only so much is written whole or not at all, and is not mixed with
    another worker's lines (pipe(7)); a longer line is cut. The pipe is opened a second time, so that the non-blocking
    mode applies to this handler alone, and a print() elsewhere still blocks as it expects to.

    A write releases the interpreter lock and wakes the reader, which takes a third of the time of a small request.
    After `gather()`, lines within GATHER seconds of the last write are left to a thread of the handler, which writes
    them together. A warning or worse is written at once, with all lines before it.
    """

    GATHER = 0.01  # seconds: how much of its log a killed worker may lose
    MAX_WAITING = 1000  # lines that may wait
    lock: threading.RLock

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.lines: deque[bytes] = deque()
        self.written = 0.0  # when it last wrote
        self.waiting: threading.Event | None = None  # set while lines wait; None before gather()
        self.dropped = 0

    def gather(self) -> None:
        """Starts a thread in this process, so call it after a fork."""
        self.waiting = threading.Event()
        threading.Thread(target=self.write_later, args=(self.waiting,), name="log", daemon=True).start()

    def write_later(self, waiting: threading.Event) -> None:
        while waiting.wait():
            waiting.clear()
            sleep(self.GATHER)
            self.flush()

    def handle(self, record: logging.LogRecord) -> bool:
        """Does not take the handler's lock, which only a write needs: a waiting thread must not hold up the others."""
        if passes := bool(self.filter(record)):
            self.emit(record)
        return passes

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.put(self.line(record), urgent=record.levelno >= logging.WARNING)
        except Exception:
            self.handleError(record)

    def put(self, line: bytes, urgent: bool) -> None:
        self.lines.append(line)
        if urgent or not self.waiting or not self.may_wait():
            self.flush()
        elif not self.waiting.is_set():
            self.waiting.set()

    def may_wait(self) -> bool:
        return monotonic() - self.written < self.GATHER and len(self.lines) < self.MAX_WAITING

    def flush(self) -> None:
        with self.lock:
            self.written = monotonic()
            while lines := self.some():
                self.write(lines)

    def some(self) -> list[bytes]:
        """The next lines, as many as one write takes whole."""
        lines: list[bytes] = []
        size = 0
        with suppress(IndexError):  # none is left, or a signal handler wrote them meanwhile
            while (size := size + len(line := self.lines.popleft())) <= PIPE_BUF or not lines:
                lines.append(line)
            self.lines.appendleft(line)
        return lines

    def write(self, lines: list[bytes]) -> None:
        try:
            if self.dropped:
                os.write(self.descriptor, self.encode(self.notice()))
                self.dropped = 0
            os.write(self.descriptor, b"".join(lines))
        except BlockingIOError:
            self.dropped += len(lines)
        except BrokenPipeError:
            pass  # the reader is gone, so nothing can be reported

    def line(self, record: logging.LogRecord) -> bytes:
        line = self.encode(record)
        for limit in TEXT_LIMITS:
            if len(line) <= PIPE_BUF:
                break
            line = self.encode(shortened(record, limit))
        return line

    def encode(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode("utf-8", "replace") + b"\n"

    def notice(self) -> logging.LogRecord:
        text = "%s log lines were dropped: the log pipe was full"
        return logging.LogRecord("logs", logging.WARNING, __file__, 0, text, (self.dropped,), None)


def shortened(record: logging.LogRecord, limit: int) -> logging.LogRecord:
    """The record with every text over `limit` characters cut in its middle."""
    fields = dict(vars(record), msg=record.getMessage(), args=(), exc_info=None, exc_text=None)
    if record.exc_info:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    for key, value in fields.items():
        if isinstance(value, str) and len(value) > limit:
            fields[key] = f"{value[: limit // 4]} … {value[-limit * 3 // 4 :]}"
    return logging.makeLogRecord(fields)


def handler() -> logging.Handler:
    """The handler for stdout: one that never blocks if stdout is a pipe, as in a container."""
    try:
        if stat.S_ISFIFO(os.fstat(1).st_mode):
            return PipeHandler(1)
    except OSError:
        pass  # closed, or not ours to open: use an ordinary handler
    return logging.StreamHandler(sys.stdout)


def gather() -> None:
    """Makes a process that serves requests write lines of the same moment together; for use after the fork."""
    for each in logging.getLogger().handlers:
        if isinstance(each, PipeHandler):
            each.gather()


def configure_early() -> None:
    """Configures from the environment alone, for a start whose settings may be wrong: a bad value counts as not set."""
    level, format = os.environ.get("LOG_LEVEL", ""), os.environ.get("LOG_FORMAT", "")
    known = level in logging.getLevelNamesMapping()
    configure(level if known else "INFO", format or "json")


def configure(level: str = "INFO", format: str = "json") -> None:
    """Sends everything to stdout in one format, gunicorn's and warnings' lines included."""
    out = handler()
    out.setFormatter(JSONFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [out]
    root.setLevel(level)
    logging.captureWarnings(True)
    # Skip lookups whose results no line shows (docs.python.org/3/howto/logging.html#optimization).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    if sys.version_info >= (3, 12):
        logging.logAsyncioTasks = False
    # py-healthcheck logs each failed check as an error, at every probe; health.py logs the change.
    logging.getLogger("healthcheck").setLevel(logging.CRITICAL)


def info(log: logging.Logger, message: str, fields: Mapping[str, object]) -> None:
    """`log.info(message, extra=fields)`, in a third of the time if our pipe alone would see the record."""
    if (pipe := _only_pipe(log)) and log.isEnabledFor(logging.INFO):
        line = _line(time(), "INFO", log.name, message)
        line.update(fields)
        if len(encoded := _encode(line) + b"\n") <= PIPE_BUF:
            return pipe.put(encoded, urgent=False)
    log.info(message, extra=fields)


def _only_pipe(log: logging.Logger) -> PipeHandler | None:
    handlers = logging.root.handlers
    if len(handlers) != 1 or log.handlers or log.filters or not log.propagate or log.parent is not logging.root:
        return None
    pipe = handlers[0]
    if type(pipe) is not PipeHandler or type(pipe.formatter) is not JSONFormatter:
        return None
    return pipe if not pipe.filters and pipe.level <= logging.INFO else None


def _line(created: float, level: str, logger: str, message: str) -> dict[str, object]:
    """The fields that every line begins with."""
    line: dict[str, object] = {
        "time": _timestamp(created),
        "level": level,
        "logger": logger,
        "message": message,
        "host": HOST,
    }
    if SERVICE:
        line["service"] = SERVICE
    if (current := request_id.get()) is not None:
        line["request_id"] = current
    if (trace := trace_id.get()) is not None:
        line["trace_id"] = trace
    return line


def _encode(line: dict[str, object]) -> bytes:
    """As JSON in ASCII: with msgspec, or with json where msgspec would write UTF-8 or a format of its own."""
    if _PLAIN.issuperset(map(type, line.values())):
        with suppress(UnicodeEncodeError, OverflowError):  # half a surrogate pair, an integer over 64 bits
            if (text := msgspec.json.encode(line)).isascii():
                return text
    return json.dumps(line, default=repr).encode()


def _timestamp(created: float) -> str:
    second = int(created)
    return f"{_second(second)}.{int((created - second) * 1000):03}Z"


@lru_cache(maxsize=2)  # the same for every line of a second
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _OWN}


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
