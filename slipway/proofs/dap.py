"""An editor, as a debugger sees it: the Debug Adapter Protocol over a socket.

https://microsoft.github.io/debug-adapter-protocol/specification
"""

import itertools
import json
import socket
from pathlib import Path
from typing import Any


class Editor:
    """Attaches to a port of this machine. `local` is the editor's tree, `remote` the path of the same tree there."""

    def __init__(self, port: int, local: Path, remote: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.stream, self.numbers = self.socket.makefile("rb"), itertools.count(1)
        self.seen: list[dict] = []
        self.request("initialize", adapterID="debugpy", pathFormat="path", linesStartAt1=True)
        attach = {"pathMappings": [{"localRoot": str(local), "remoteRoot": remote}], "justMyCode": True}
        self.attaching = self.send("attach", **attach)
        self.event("initialized")

    def __enter__(self) -> "Editor":
        return self

    def __exit__(self, *raised: object) -> None:
        self.request("disconnect", terminateDebuggee=False)
        self.socket.close()

    def start(self, **breakpoints: Any) -> dict:
        """Sets the breakpoints and lets the program run; returns what the debugger says about them."""
        answer = self.request("setBreakpoints", **breakpoints)
        self.answer(self.send("configurationDone"))
        self.answer(self.attaching)
        return answer

    def request(self, command: str, **arguments: Any) -> dict:
        return self.answer(self.send(command, **arguments))

    def send(self, command: str, **arguments: Any) -> int:
        message = {"seq": next(self.numbers), "type": "request", "command": command, "arguments": arguments}
        data = json.dumps(message).encode()
        self.socket.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
        return message["seq"]

    def answer(self, number: int) -> dict:
        message = self.until(lambda each: each.get("request_seq") == number)
        assert message["success"], message
        return message.get("body", {})

    def event(self, name: str) -> dict:
        return self.until(lambda each: each.get("event") == name).get("body", {})

    def until(self, wanted: Any) -> dict:
        """The first matching message; the others are kept for later. Fails after 30 s of silence."""
        for message in self.seen:
            if wanted(message):
                self.seen.remove(message)
                return message
        while message := self.read():
            if wanted(message):
                return message
            self.seen.append(message)
        raise AssertionError(f"the debugger has hung up; it had said {self.seen}")

    def read(self) -> dict | None:
        header = self.stream.readline()
        if not header:
            return None
        self.stream.readline()
        return json.loads(self.stream.read(int(header.split(b":")[1])))
