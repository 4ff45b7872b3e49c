"""What stands in front of a swarm's nodes: a TCP load balancer, as a provider offers it."""

import asyncio
import threading
from contextlib import suppress

ACCEPTS = 1.0  # seconds within which a node has to accept a connection
OFTEN = 0.5  # seconds between two checks of a node


class Balancer:
    """A context manager: inside it, `port` leads to the nodes in turn, and to the next where one does not accept.

    A node that a check finds away gets no connections until it is back, and those that it had are closed.
    """

    def __init__(self, addresses: list[str], port: int = 443) -> None:
        self.up, self.all, self.target = list(addresses), addresses, port
        self.under_way: dict[str, set[asyncio.StreamWriter]] = {each: set() for each in addresses}

    def __enter__(self) -> "Balancer":
        started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run(started)), daemon=True)
        self.thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(10)

    async def run(self, started: threading.Event) -> None:
        self.loop, self.stopping = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.forward, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        checks = [asyncio.create_task(self.check(each)) for each in self.all]
        started.set()
        await self.stopping.wait()
        for each in checks:
            each.cancel()
        server.close()

    async def check(self, address: str) -> None:
        while True:
            await asyncio.sleep(OFTEN)
            try:
                (await self.opened(address))[1].close()
                self.up = [each for each in self.all if each in self.up or each == address]
            except OSError:
                self.up = [each for each in self.up if each != address]
                for each in self.under_way[address]:
                    each.transport.abort()

    async def opened(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.wait_for(asyncio.open_connection(address, self.target), ACCEPTS)

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for address in list(self.up):
            self.up = [*(each for each in self.up if each != address), *(each for each in self.up if each == address)]
            with suppress(OSError):
                there, back = await self.opened(address)
                self.under_way[address] |= {writer, back}
                await asyncio.gather(copy(reader, back), copy(there, writer))
                self.under_way[address] -= {writer, back}
                return
        writer.close()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()
