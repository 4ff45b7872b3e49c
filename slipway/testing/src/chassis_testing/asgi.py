"""Sends a request to an ASGI app, which is started and stopped as by its server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from chassis.web.asgi import App, Message


def get(app: "App", path: str, **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with (
            started(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


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
