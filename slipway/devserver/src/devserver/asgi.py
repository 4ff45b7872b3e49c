"""The layer around an ASGI app in development: each request is recorded, and `/_dev/requests` answered."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any
from wsgiref.types import WSGIEnvironment

from werkzeug.test import run_wsgi_app

from devserver import inspector, recording
from devserver.debugger import Debugger

if TYPE_CHECKING:
    from devserver.supervisor import Supervisor

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Layer:
    def __init__(self, app: Any, supervisor: "Supervisor") -> None:
        self.app, self.root, self.channel = app, supervisor.root, supervisor.theirs
        self.inspector = inspector.Inspector(app, supervisor, Debugger())

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["path"].startswith(inspector.PATH):
            await self.own(environ(scope), send)
        else:
            await self.record(scope, receive, send)

    async def record(self, scope: Message, receive: Receive, send: Send) -> None:
        query = scope["query_string"].decode("latin-1")
        path = scope["path"] + (f"?{query}" if query else "")
        request, status, request_id = recording.Request(self.root, scope["method"], path), 0, ""

        async def note(message: Message) -> None:
            nonlocal status, request_id
            if message["type"] == "http.response.start":
                message["headers"] = list(message.get("headers") or ())  # may be an iterator, which can be read once
                status, named = message["status"], {name.lower(): value for name, value in message["headers"]}
                request_id = named.get(b"x-request-id", b"").decode("latin-1")
            await send(message)

        try:
            await self.app(scope, receive, note)
        except Exception as error:
            request.error = request.error or error
            raise
        finally:
            request.finish(self.channel, status, request_id)

    async def own(self, environ: WSGIEnvironment, send: Send) -> None:
        body, status, headers = await asyncio.to_thread(run_wsgi_app, self.inspector, environ, buffered=True)
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": int(status.split()[0]), "headers": pairs})
        await send({"type": "http.response.body", "body": b"".join(body)})


def environ(scope: Message) -> WSGIEnvironment:
    """What the inspector needs to know of a request."""
    headers = {
        f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode("latin-1") for name, value in scope["headers"]
    }
    peer, _ = scope.get("client") or ("", 0)
    return {
        **headers,
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"],
        "REMOTE_ADDR": peer,
        "wsgi.url_scheme": scope["scheme"],
    }
