"""What the chassis gives an ASGI app of any framework: health, metrics, request ids, the prefix, database sessions.

The server is gunicorn with its own ASGI worker, so starting, draining and logging are the same as for a Flask app.
`Chassis(app, settings)` is the outermost layer, so it sees every answer. What a framework has to be told is in
sanic.py and fastapi.py.
"""

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

from prometheus_client import exposition

from chassis.observe import gauges, logs, metrics, request_id, routes, version
from chassis.observe.routes import is_internal
from chassis.settings import Settings
from chassis.web import problems, well_known
from chassis.web.cross_site import REFUSAL, SAFE_METHODS, is_cross_site, trusted_origins
from chassis.web.readiness import HEADERS, Readiness

if TYPE_CHECKING:
    from chassis.observe.traces import Request
    from chassis.web.postgres import Database

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
T = TypeVar("T")

PROBES = 8  # readiness probes at a time; each may wait for the database
AT_WORK = 1.0  # seconds more for a request that may be in a thread, where the limit ends its waits for Postgres

log = logging.getLogger("asgi")


class Chassis:
    database: "Database | None" = None

    def __init__(self, app: App, settings: Settings) -> None:
        self.app, self.prefix, self.limit = app, settings.url_prefix, settings.request_timeout
        self.proxies, self.trusted = settings.trusted_proxies, trusted_origins(settings)
        headers = {"Content-Security-Policy": settings.content_security_policy} | well_known.headers(settings)
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self.texts = {path: partial(well_known.text, path, settings) for path in well_known.paths(settings)}
        self.readiness = Readiness(log)
        self.probes = ThreadPoolExecutor(PROBES, thread_name_prefix="probe")
        self.running: set[asyncio.Task[None]] = set()
        self.answering = 0  # requests
        gauges.sources["http_requests_in_flight"] = lambda: self.answering
        self.traced = settings.traced
        self.internal = {routes.LIVE: live, routes.READY: self.ready, routes.METRICS: counted}
        if settings.uses_database:
            self.use_database(settings)
        self.readiness.watch(settings, self.database.absence if self.database else None)

    def use_database(self, settings: Settings) -> None:
        from chassis.db import waits  # and with it SQLAlchemy and psycopg2
        from chassis.web import sessions
        from chassis.web.postgres import Database

        self.database = Database(settings, Path(inspect.getfile(type(settings))).parent)
        self.readiness.add({"database": self.database.is_ready})
        self.sessions = sessions.Sessions(self.database.engine, settings)
        self.lend, self.end_waits = sessions.current.set, waits.request_ends.set

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.database:
            self.lend(self.sessions)
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self.closing(send))
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        logs.request_id.set(request_id.chosen(header(scope, b"x-request-id")))
        span = self.span(scope) if self.traced else None
        if not self.database:
            await self.handle(scope, receive, send, span)
            return
        # A client that goes away makes gunicorn cancel its task, but not a thread, which may be at work for it.
        task = asyncio.ensure_future(self.handle(scope, receive, send, span))
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        await asyncio.shield(task)

    def closing(self, send: Send) -> Send:
        """`send` of the lifespan protocol: once the app has stopped, its connections are closed."""

        async def tell(message: Message) -> None:
            if self.database and message["type"].startswith("lifespan.shutdown"):
                self.database.dispose()
            await send(message)

        return tell

    def span(self, scope: Scope) -> "Request | None":
        """It is begun before the request's task is, and ends there."""
        from chassis.observe import traces

        parent = header(scope, b"traceparent"), header(scope, b"tracestate")
        return traces.request(scope["method"], scope["path"], *parent)

    async def handle(self, scope: Scope, receive: Receive, send: Send, span: "Request | None") -> None:
        clock, started = Clock(receive), perf_counter()
        answer = Answer(send, clock, self.headers)
        limit = self.limit
        if self.database:
            self.end_waits(lambda: clock.ends(self.limit))
            limit += AT_WORK
        self.answering += 1
        try:
            await clock.bound(self.route(scope, clock.receive, answer), limit)
        except TimeoutError:
            log.critical("a request hung for over %g s (REQUEST_TIMEOUT)", self.limit, extra={"path": scope["path"]})
            await answer.problem(503)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            await answer.problem(500)
        finally:
            self.answering -= 1
            if span:
                scheme, _, host = self.origin(scope).partition("://")
                route = answer.route()
                span.end(answer.status, None if route == "none" else self.prefix + route, scheme, host)
        metrics.count(scope["method"], answer.route(), answer.status, perf_counter() - started)

    async def route(self, scope: Scope, receive: Receive, answer: "Answer") -> None:
        """The app's own paths lie below the prefix, internal ones do not."""
        path: str = scope["path"]
        below = path == self.prefix or path.startswith(f"{self.prefix}/")
        inner = path.removeprefix(self.prefix) if below else path
        if scope["method"] not in SAFE_METHODS and self.is_cross_site(scope):
            await answer.problem(403, REFUSAL)
        elif self.prefix and path in ("/", self.prefix):
            await answer.send_all(308, b"", [(b"location", f"{self.prefix}/".encode())])
        elif is_internal(path) and path in self.internal:
            answer.scope = {"route": Route(path)}
            await self.internal[path](scope, answer)
        elif below and not is_internal(inner) and inner == routes.VERSION:
            await answer.json(200, version.current())
        elif path in self.texts:
            kind = (b"content-type", well_known.TYPE.encode())
            await answer.send_all(200, self.texts[path]().encode(), [kind])
        elif below and not is_internal(inner):
            # Starlette takes the whole path, as the specification says, and Sanic `raw_path` as its own.
            own = {"raw_path": quote(inner or "/").encode(), "root_path": scope.get("root_path", "") + self.prefix}
            answer.scope = {**scope, **own}
            if self.traced:
                answer.scope["fastapi.telemetry"] = None  # FastAPI need not make a span of its own
            await self.app(answer.scope, receive, answer)
        else:
            await answer.problem(404)

    async def ready(self, scope: Scope, answer: "Answer") -> None:
        public = bool(header(scope, b"x-forwarded-for"))  # the proxy always sends it, except in its own probes
        asked = public, b"for=traffic" in scope["query_string"]
        body, status = await asyncio.get_running_loop().run_in_executor(self.probes, self.readiness.answer, *asked)
        headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
        await answer.send_all(status, body.encode(), headers)

    def is_cross_site(self, scope: Scope) -> bool:
        site, origin = header(scope, b"sec-fetch-site"), header(scope, b"origin")
        return is_cross_site(site, origin, lambda: self.origin(scope), self.trusted)

    def origin(self, scope: Scope) -> str:
        """The site's origin, as the client asked for it."""
        scheme = self.forwarded(scope, b"x-forwarded-proto") or scope["scheme"]
        host = self.forwarded(scope, b"x-forwarded-host") or header(scope, b"host")
        return f"{scheme}://{host.removesuffix(':443' if scheme == 'https' else ':80')}"

    def forwarded(self, scope: Scope, name: bytes) -> str:
        """What the outermost trusted proxy says."""
        values = header(scope, name).split(",")
        return values[-self.proxies].strip() if 0 < self.proxies <= len(values) else ""


def header(scope: Scope, name: bytes) -> str:
    return ",".join(value.decode("latin-1") for each, value in scope["headers"] if each == name)


class Route(NamedTuple):
    """As FastAPI's, of which the name is needed."""

    path: str


class Clock:
    """How long a request computes: the clock stops while the client sends or reads, see watchdog.ClientsTurn."""

    def __init__(self, receive: Receive) -> None:
        self.source, self.sends = receive, True
        self.began, self.waited = monotonic(), 0.0
        self.turns = 0  # waits for the client that are under way: an app may send and receive at once
        self.since = 0.0  # when the first of them began

    async def bound(self, work: Awaitable[None], limit: float) -> None:
        """Raises TimeoutError if the request computes for longer."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            if (left := limit - self.spent()) > 0:
                timer = loop.call_later(max(left, limit / 10), look)
            else:
                deadline.reschedule(loop.time())

        async with asyncio.timeout(None) as deadline:
            timer = loop.call_later(limit, look)
            try:
                await work
            finally:
                timer.cancel()

    def ends(self, limit: float) -> float:
        """When the request will have computed for so long, by the monotonic clock."""
        return monotonic() + limit - self.spent()

    def spent(self) -> float:
        now = monotonic()
        return now - self.began - self.waited - (now - self.since if self.turns else 0.0)

    async def receive(self) -> Message:
        """`receive`; after the body an app waits there only for a disconnection, which is not the client's turn."""
        if not self.sends:
            return await self.source()
        message = await self.clients_turn(self.source())
        self.sends = message.get("more_body", False)
        return message

    async def clients_turn(self, wait: Awaitable[T]) -> T:
        if not self.turns:
            self.since = monotonic()
        self.turns += 1
        try:
            return await wait
        finally:
            self.turns -= 1
            if not self.turns:
                self.waited += monotonic() - self.since


class Answer:
    """`send`, with the headers that every answer carries."""

    def __init__(self, send: Send, clock: Clock, headers: list[tuple[bytes, bytes]]) -> None:
        self.send, self.clock, self.headers, self.status = send, clock, headers, 0
        self.scope: Scope = {}  # the one that the answering app has, in which a framework notes its route

    def route(self) -> str:
        """The route's template, if a framework says it: Starlette and FastAPI do, see sanic.py for Sanic."""
        return getattr(self.scope.get("route"), "path", "none")

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers") or ())  # an app may pass an iterator, which can be read only once
            headers.append((b"x-request-id", (request_id.current() or "").encode()))
            given = {name.lower() for name, _ in headers}
            headers += [each for each in self.headers if each[0] not in given]
            message = {**message, "headers": headers}
        await self.clock.clients_turn(self.send(message))

    async def send_all(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        length = (b"content-length", str(len(body)).encode())
        await self({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await self({"type": "http.response.body", "body": body})

    async def json(self, status: int, content: Mapping[str, object], kind: str = "application/json") -> None:
        headers = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
        await self.send_all(status, json.dumps(content).encode(), headers)

    async def problem(self, status: int, detail: str | None = None) -> None:
        """Problem details, unless an answer has begun."""
        if not self.status:
            await self.json(status, problems.problem(status, detail), problems.MEDIA_TYPE)


async def live(scope: Scope, answer: Answer) -> None:
    await answer.json(200, {"status": "alive"})


async def counted(scope: Scope, answer: Answer) -> None:
    await answer.send_all(200, metrics.text(), [(b"content-type", exposition.CONTENT_TYPE_LATEST.encode())])
