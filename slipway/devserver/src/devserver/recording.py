"""What one request did, for the inspector: its SQL, templates, waits for a connection, log lines and exception."""

import json
import logging
import os
import socket
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from time import perf_counter, time
from typing import Any, NamedTuple

import jinja2

from devserver import page, sql

MAX_BYTES = 100_000  # of a record: one datagram, and one place in the memory of those kept
MAX_EVENTS = 1000
MAX_TEXT = 4000  # characters of one text in it
OFTEN = 5  # a statement that runs more often in a request is probably a query in a loop
EXPLAINED = ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "WITH")

_current: ContextVar["Request | None"] = ContextVar("recorded request", default=None)


class Event(NamedTuple):
    kind: str
    begun: float
    ended: float
    text: str
    more: dict[str, Any]


class Request:
    """What the request of this context does, from now on."""

    def __init__(self, root: Path, method: str, path: str) -> None:
        self.root, self.method, self.path = root, method, path
        self.error: BaseException | None = None
        self.events: list[Event] = []
        self.left_out = 0  # events
        self.statements = sql.begin()
        self.at, self.begun = time(), perf_counter()
        _current.set(self)

    def finish(self, channel: socket.socket | None, status: int, request_id: str) -> None:
        """Sends the record to the process that keeps it, unless the request is one of many that tell nothing."""
        ended = perf_counter()
        _current.set(None)
        if channel is not None and not is_left_out(self.path, status):
            with suppress(OSError):  # the development server stops
                channel.send(encoded(*self.record(ended, status, request_id)))

    def record(self, ended: float, status: int, request_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the list shows, and all that is known."""
        repeated = often(self.statements)
        summary = {
            "id": request_id,
            "method": self.method,
            "path": self.path[:MAX_TEXT],
            "status": status,
            "at": self.at,
            "ms": (ended - self.begun) * 1000,
            "statements": len(self.statements),
            "database_ms": sum(each.milliseconds for each in self.statements),
            "repeated": max((each["count"] for each in repeated), default=0),
            "error": type(self.error).__name__ if self.error else "",
        }
        ran = [Event("sql", each.begun, 0, each.text, {"sql": each}) for each in self.statements]
        events = sorted([*self.events, *ran], key=lambda event: event.begun)
        shown = [self.shown(event) for event in events[:MAX_EVENTS]]
        left_out = self.left_out + len(events) - len(shown)
        more = {"repeated": repeated, "error": self.raised(), "events": shown, "left_out": left_out}
        return summary, summary | more

    def shown(self, event: Event) -> dict[str, Any]:
        at = (event.begun - self.begun) * 1000
        if event.kind == "sql":
            return {"kind": "sql", "at": at, **statement(event.more["sql"])}
        spent = (event.ended - event.begun) * 1000
        return {"kind": event.kind, "at": at, "ms": spent, "text": event.text[:MAX_TEXT], **event.more}

    def raised(self) -> dict[str, str] | None:
        if self.error is None:
            return None
        lines = [frame for frame in page.walk(self.error.__traceback__) if sql.is_service(str(self.root), frame[0])]
        return {
            "kind": type(self.error).__name__,
            "message": str(self.error)[:MAX_TEXT],
            "place": f"{os.path.relpath(lines[-1][0], self.root)}:{lines[-1][1]}" if lines else "",
            "trace": "".join(traceback.format_exception(self.error))[-2 * MAX_TEXT :],
        }


def is_left_out(path: str, status: int) -> bool:
    """Whether it is a probe or a static file, of which a page has many, and was answered as it should be."""
    from chassis.observe import routes  # as it is saved now

    return 0 < status < 400 and (routes.is_polled(path) or "/static/" in path)


def encoded(summary: dict[str, Any], record: dict[str, Any]) -> bytes:
    """A line for the list, and a line with all, without its last events where they are too many."""
    line = json.dumps(summary).encode() + b"\n"
    while len(data := line + json.dumps(record).encode()) > MAX_BYTES and record["events"]:
        kept = record["events"][: len(record["events"]) // 2]
        record = record | {"left_out": record["left_out"] + len(record["events"]) - len(kept), "events": kept}
    return data


def often(statements: list[sql.Statement]) -> list[dict[str, Any]]:
    """Each statement that ran more than OFTEN times, with the line that sent it most often."""
    found: list[dict[str, Any]] = []
    for text, count in sql.repeated(statements).items():
        if count > OFTEN and len(found) < OFTEN:
            same = [each for each in statements if each.text == text]
            place = Counter(each.place for each in same).most_common(1)[0][0]
            spent = sum(each.milliseconds for each in same)
            found.append({"text": text[:MAX_TEXT], "count": count, "place": place, "ms": spent})
    return found


def statement(ran: sql.Statement) -> dict[str, Any]:
    """A statement as the inspector shows it, and `sent`, which it does not show, where it may be explained.

    A plan shows values, so there is none where one is masked. And it is of one statement: where several were sent as
    one text, the others would run again.
    """
    sets = ran.parameters if isinstance(ran.parameters, list) else [ran.parameters]
    parameters = shown(sets[0]) if sets else {}
    alone = ran.text.lstrip().upper().startswith(EXPLAINED) and ";" not in ran.text.rstrip("; \n")
    sent = ran.sent.decode("utf-8", "replace") if ran.sent and alone and not ran.error else ""
    may = len(sent) <= MAX_TEXT and page.MASK not in parameters.values()
    return {
        "text": ran.text[:MAX_TEXT],
        "ms": ran.milliseconds,
        "parameters": parameters,
        "sets": len(sets),
        "rows": ran.rows,
        "place": ran.place,
        "error": ran.error[:MAX_TEXT],
        "sent": sent if may else "",
    }


def shown(parameters: Any) -> dict[str, str]:
    if not isinstance(parameters, dict):
        parameters = {str(number): value for number, value in enumerate(parameters or (), 1)}
    few = list(parameters.items())[:100]
    return {name: page.MASK if page.SECRET.search(name) else page.represented(value) for name, value in few}


# --- Listening


def listen(root: Path) -> None:
    """Listens to SQL, templates, connections and log lines, of every framework; once per process."""
    if "sqlalchemy" in sys.modules:  # else the app has no database, and each reload would wait for the import
        from chassis.db.pool import Pool

        sql.record(str(root))
        Pool.everywhere.append(connected)
    jinja2.Template.render = timed(jinja2.Template.render)  # type: ignore[method-assign]
    logging.getLogger().addHandler(Lines())


def note(kind: str, begun: float, text: str, **more: Any) -> None:
    if (request := _current.get()) is None:
        return
    if len(request.events) < MAX_EVENTS:
        request.events.append(Event(kind, begun, perf_counter(), text, more))
    else:
        request.left_out += 1


def connected(begun: float, ended: float, failure: Exception | None) -> None:
    note("connection", begun, f"no connection: {failure}" if failure else "a connection from the pool")


def timed(render: Callable[..., str]) -> Callable[..., str]:
    def timed_render(template: jinja2.Template, *arguments: Any, **context: Any) -> str:
        begun = perf_counter()
        try:
            return render(template, *arguments, **context)
        finally:
            if template.environment is not page.templates:
                note("template", begun, template.name or "a template without a name")

    return timed_render


class Lines(logging.Handler):
    """Records the request's log lines as the terminal shows them, and the exception of the first error."""

    def __init__(self) -> None:
        from chassis.observe.logs import TextFormatter  # as it is saved now

        super().__init__()
        self.setFormatter(TextFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        if (request := _current.get()) is None or record.name == "gunicorn.access":  # it tells of the same request
            return
        error = record.exc_info[1] if record.exc_info else None
        if error and record.levelno >= logging.ERROR and request.error in (None, error):
            request.error = error
            record = logging.makeLogRecord(vars(record) | {"exc_info": None})  # the inspector shows it by itself
        _, _, line = self.format(record).partition(" ")  # without the time
        note("log", perf_counter(), line, level=record.levelname)
