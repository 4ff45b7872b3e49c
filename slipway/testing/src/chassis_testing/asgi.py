"""A test client for an ASGI app, which is started and stopped as by its server."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

import httpx

if TYPE_CHECKING:
    from chassis.web.asgi import App, Message

T = TypeVar("T")

TIMEOUT = 60  # seconds


class Client:
    """`with Client(app) as client: client.get("/").json()`; the app's loop runs in a thread of its own."""

    def __init__(self, app: "App") -> None:
        self.app, self.loop, self.exits = app, asyncio.new_event_loop(), ExitStack()

    def __enter__(self) -> Self:
        running = threading.Thread(target=self.loop.run_forever, daemon=True)
        running.start()
        self.exits.callback(self.loop.close)
        self.exits.callback(running.join)
        self.exits.callback(self.loop.call_soon_threadsafe, self.loop.stop)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://test")
        self.exits.callback(lambda: self.await_(self.http.aclose()))
        lifespan = started(self.app)
        self.await_(lifespan.__aenter__())
        self.exits.callback(lambda: self.await_(lifespan.__aexit__(None, None, None)))
        return self

    def __exit__(self, *error: object) -> None:
        self.exits.close()

    def await_(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, awaited in the app's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(TIMEOUT)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.await_(self.http.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)


def get(app: "App", path: str, **headers: str) -> httpx.Response:
    with Client(app) as client:
        return client.get(path, headers=headers)


@asynccontextmanager
async def started(app: "App") -> AsyncIterator[None]:
    """The lifespan protocol (asgi.readthedocs.io/en/stable/specs/lifespan.html)."""
    told: asyncio.Queue[Message] = asyncio.Queue()
    said: asyncio.Queue[Message] = asyncio.Queue()
    running = asyncio.ensure_future(app({"type": "lifespan", "asgi": {"version": "3.0"}}, told.get, said.put))
    try:
        await told.put({"type": "lifespan.startup"})
        assert (await said.get())["type"] == "lifespan.startup.complete"
        yield
        await told.put({"type": "lifespan.shutdown"})
        await said.get()
    finally:
        running.cancel()
