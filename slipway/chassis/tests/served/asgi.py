"""The same service as an ASGI app."""

import asyncio
import logging
import os
from typing import Any

from chassis.web.asgi import Chassis
from served import LARGE
from served.settings import Settings


def create_app() -> Chassis:
    return Chassis(answer, Settings.load())


async def answer(scope: dict, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            event = (await receive())["type"]
            logging.getLogger("served").info(event)
            await send({"type": f"{event}.complete"})
    path, chunks = scope["path"], [b"x" * 2**20]
    if path == "/pid":
        chunks = [str(os.getpid()).encode()]
    elif path == "/upload":
        chunks = [str(await size(receive)).encode()]
    elif path in ("/large", "/streamed"):
        chunks = [b"x" * 2**16] * (LARGE // 2**16)
    elif path == "/hangs":
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    if path == "/hangs_later":
        await asyncio.Event().wait()
    await send({"type": "http.response.body", "body": b""})


async def size(receive: Any) -> int:
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message["body"]), message["more_body"]
    return length
