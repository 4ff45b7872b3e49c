"""`/_dev/requests`: what the last requests did, live, for this machine alone."""

import json
import mmap
import re
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.wrappers import Response

from devserver import live, page
from devserver.debugger import PATH as DEBUGGER
from devserver.debugger import Debugger
from devserver.recording import MAX_BYTES

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from devserver.supervisor import Supervisor

PATH = "/_dev/requests"
KEPT = 200
AGAIN = 500  # ms after which a browser asks again, where its connection can't be handed over
TIMEOUT = 2000  # ms that Postgres may plan
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Cache-Control": "no-store", "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}


class Kept:
    """The latest records, in memory that is shared with every fork; one process writes.

    Each has a number, which only ever grows, even from one start of `make dev` to the next.
    """

    PLACE = 16 + MAX_BYTES  # the record's number, its length, itself

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 8 + KEPT * self.PLACE)  # takes as much memory as is written
        self.first = time.time_ns() // 1000
        self.memory[:8] = struct.pack("Q", self.first - 1)

    @property
    def latest(self) -> int:
        return int(struct.unpack("Q", self.memory[:8])[0])

    def add(self, data: bytes) -> bytes:
        """Keeps a record, and returns the event that tells of it; empty for one that is too large."""
        if len(data) > MAX_BYTES:
            return b""
        number = self.latest + 1
        place = 8 + number % KEPT * self.PLACE
        self.memory[place : place + 8] = bytes(8)  # no reader finds half of it
        self.memory[place + 16 : place + 16 + len(data)] = data
        self.memory[place : place + 16] = struct.pack("QQ", number, len(data))
        self.memory[:8] = struct.pack("Q", number)
        return self.events(number - 1)

    def read(self, number: int) -> bytes | None:
        """The record's two lines: see `recording.encoded`."""
        place = 8 + number % KEPT * self.PLACE
        known, length = struct.unpack("QQ", self.memory[place : place + 16])
        data = self.memory[place + 16 : place + 16 + length]
        same = number == known == struct.unpack("Q", self.memory[place : place + 8])[0]
        return data if same else None

    def events(self, after: int) -> bytes:
        """What the list shows of each record since."""
        found = []
        for number in range(max(after + 1, self.oldest), self.latest + 1):
            if data := self.read(number):
                found.append(b"id: %d\ndata: %s\n\n" % (number, data.partition(b"\n")[0]))
        return b"".join(found)

    @property
    def oldest(self) -> int:
        return max(self.first, self.latest - KEPT + 1)


class Inspector:
    """Its page, and what that asks for; a WSGI app for ASGI services, too."""

    def __init__(self, app: Any, supervisor: "Supervisor", debugger: Debugger) -> None:
        self.kept, self.channel, self.debugger = supervisor.requests, supervisor.theirs, debugger
        self.database: Any = getattr(app, "extensions", {}).get("database") or getattr(app, "database", None)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = self.answer(environ) if self.debugger.allows(environ) else NotFound()
        return answer(environ, start_response)

    def answer(self, environ: WSGIEnvironment) -> Any:
        path = environ["PATH_INFO"].removeprefix(PATH)
        if path == "":
            text = page.templates.get_template("requests.html").render(kept=KEPT)
            return Response(text, mimetype="text/html", headers=HEADERS)
        if path == ".js":
            return Response(SCRIPT.read_bytes(), mimetype="text/javascript", headers=HEADERS)
        if path == "/events":
            return self.stream(environ)
        if found := re.fullmatch(r"/(\d+)(?:/(\d+))?", path):
            number, event = found.groups()
            if not (data := self.kept.read(int(number))):
                return NotFound("This request is no longer kept.")
            record = json.loads(data.partition(b"\n")[2])
            return self.explained(record, int(event), environ) if event else self.shown(record)
        return NotFound()

    def stream(self, environ: WSGIEnvironment) -> Response:
        """The list as server-sent events. The supervisor goes on with it; without a socket to hand over, as in an
        ASGI server, the browser soon asks again for what is new."""
        known = environ.get("HTTP_LAST_EVENT_ID", "")
        latest = self.kept.latest
        events = self.kept.events(int(known) if known.isdecimal() else 0)
        events = b"event: oldest\ndata: %d\n\n%s" % (self.kept.oldest, events)
        if "gunicorn.socket" in environ:
            environ["gunicorn.socket"].sendall(live.HEAD + events)
            live.hand_over(environ, self.channel, {"requests": latest})
        return Response(b"retry: %d\n\n%s" % (AGAIN, events), mimetype="text/event-stream", headers=HEADERS)

    def shown(self, record: dict[str, Any]) -> Response:
        for event in record["events"]:
            event["explainable"] = bool(self.database and event.pop("sent", ""))
        if record["error"] and record["id"] in self.debugger.errors:
            record["error"]["page"] = f"{DEBUGGER}?id={record['id']}"
        return Response(json.dumps(record), mimetype="application/json", headers=HEADERS)

    def explained(self, record: dict[str, Any], event: int, environ: WSGIEnvironment) -> Any:
        """How Postgres would run a recorded statement. The browser only says which."""
        if environ["REQUEST_METHOD"] != "POST":
            return MethodNotAllowed(["POST"])
        sent = record["events"][event].get("sent") if event < len(record["events"]) else None
        if not sent or not self.database:
            return NotFound("This statement can't be explained.")
        return Response(json.dumps(plan(self.database.engine, sent)), mimetype="application/json", headers=HEADERS)


def plan(engine: "Engine", sent: str) -> dict[str, Any]:
    """The plan's lines, each with whether it reads a whole table, or the error. Nothing is run, and nothing stays."""
    from sqlalchemy.exc import SQLAlchemyError

    as_it_is = {"no_parameters": True}  # a % in it is a %
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = {TIMEOUT}")
            lines = connection.exec_driver_sql(f"EXPLAIN {sent}", execution_options=as_it_is).scalars().all()
    except SQLAlchemyError as error:
        return {"error": str(getattr(error, "orig", error)).strip()}
    return {"lines": [{"text": line, "scan": "Seq Scan on" in line} for line in lines]}


SCRIPT = Path(__file__).with_name("requests.js")
