"""What the chassis gives an ASGI app, in Sanic or another framework: health, metrics, request ids, the prefix.

The server is gunicorn with its own ASGI worker, so starting, draining and logging are the same as for a Flask app.
`Chassis(app, settings)` is the outermost layer, so it sees every answer.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from time import monotonic, perf_counter
from typing import Any, TypeVar

from prometheus_client import exposition

from chassis.observe import logs, metrics, request_id, routes, version
from chassis.observe.routes import is_internal
from chassis.server import drain
from chassis.settings import Settings
from chassis.web import well_known
from chassis.web.cross_site import REFUSAL, SAFE_METHODS, is_cross_site, trusted_origins

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
T = TypeVar("T")

log = logging.getLogger("asgi")


class Chassis:
    def __init__(self, app: App, settings: Settings) -> None:
        self.app, self.prefix, self.limit = app, settings.url_prefix, settings.request_timeout
        self.proxies, self.trusted = settings.trusted_proxies, trusted_origins(settings)
        headers = {"Content-Security-Policy": settings.content_security_policy} | well_known.headers(settings)
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self.texts = {path: partial(well_known.text, path, settings) for path in well_known.paths(settings)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"), "")
        logs.request_id.set(request_id.chosen(given))
        clock, started = Clock(receive), perf_counter()
        answer = Answer(send, clock, self.headers)
        try:
            await clock.bound(self.route(scope, clock.receive, answer), self.limit)
        except TimeoutError:
            log.critical("a request hung for over %g s (REQUEST_TIMEOUT)", self.limit, extra={"path": scope["path"]})
            await answer.problem(503, "Service Unavailable")
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            await answer.problem(500, "Internal Server Error")
        # One series for all routes: only the framework knows their names, and a path is not one.
        metrics.count(scope["method"], "asgi", answer.status, perf_counter() - started)

    async def route(self, scope: Scope, receive: Receive, answer: "Answer") -> None:
        """The app's own paths lie below the prefix, internal ones do not."""
        path: str = scope["path"]
        below = path == self.prefix or path.startswith(f"{self.prefix}/")
        inner = path.removeprefix(self.prefix) if below else path
        if scope["method"] not in SAFE_METHODS and self.is_cross_site(scope):
            await answer.problem(403, "Forbidden", REFUSAL)
        elif self.prefix and path in ("/", self.prefix):
            await answer.send_all(308, b"", [(b"location", f"{self.prefix}/".encode())])
        elif is_internal(path) and path in INTERNAL:
            if b"for=traffic" in scope["query_string"] and not header(scope, b"x-forwarded-for"):
                drain.tell()
            await INTERNAL[path](answer)
        elif below and not is_internal(inner) and inner == routes.VERSION:
            await answer.json(200, version.current())
        elif path in self.texts:
            kind = (b"content-type", well_known.TYPE.encode())
            await answer.send_all(200, self.texts[path]().encode(), [kind])
        elif below and not is_internal(inner):
            raw = {"path": inner or "/", "raw_path": (inner or "/").encode()}
            await self.app({**scope, **raw, "root_path": scope.get("root_path", "") + self.prefix}, receive, answer)
        else:
            await answer.problem(404, "Not Found")

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

    async def json(self, status: int, content: Mapping[str, object], kind: bytes = b"application/json") -> None:
        headers = [(b"content-type", kind), (b"cache-control", b"no-store")]
        await self.send_all(status, json.dumps(content).encode(), headers)

    async def problem(self, status: int, title: str, detail: str = "") -> None:
        """Problem details (RFC 9457), unless an answer has begun."""
        if not self.status:
            content = {"type": "about:blank", "title": title, "status": status, "request_id": request_id.current()}
            more = {"detail": detail} if detail else {}
            await self.json(status, content | more, b"application/problem+json")


async def live(answer: Answer) -> None:
    await answer.json(200, {"status": "alive"})


async def ready(answer: Answer) -> None:
    if drain.started():
        await answer.json(503, {"status": "draining"})
    else:
        await answer.json(200, {"status": "serving"})


async def counted(answer: Answer) -> None:
    await answer.send_all(200, metrics.text(), [(b"content-type", exposition.CONTENT_TYPE_LATEST.encode())])


INTERNAL = {routes.LIVE: live, routes.READY: ready, routes.METRICS: counted}
