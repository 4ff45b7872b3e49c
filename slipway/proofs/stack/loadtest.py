"""Fifty requests a second through the proxy, a quarter POST, a fifth taking two seconds."""

import asyncio
import ssl
import threading
import time
from dataclasses import dataclass, field

import httpx

RATE = 50  # requests a second, started on time whether or not earlier ones have been answered


@dataclass
class LoadTest:
    """A context manager: load runs inside it, and afterwards it holds the figures."""

    url: str
    certificate: str
    answers: list[tuple[float, str, int | str, float]] = field(default_factory=list)  # when, what, status, seconds

    def __enter__(self) -> "LoadTest":
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join(60)

    async def run(self) -> None:
        context = ssl.create_default_context(cadata=self.certificate)
        limits = httpx.Limits(max_connections=800, max_keepalive_connections=100)
        begun, number, tasks = time.monotonic(), 0, set()
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=60, limits=limits) as client:
            while not self.stopping.is_set():
                task = asyncio.create_task(self.ask(client, number))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                number += 1
                await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))
            await asyncio.gather(*tasks)

    async def ask(self, client: httpx.AsyncClient, number: int) -> None:
        what, begun = kind(number), time.monotonic()
        try:
            if what == "POST":
                answer = await client.post(self.url + "/probe/rows", json={"title": f"load {number}"})
            else:
                answer = await client.get(self.url + ("/probe/slow" if what == "slow" else "/probe/rows"))
            status: int | str = answer.status_code
        except httpx.HTTPError as error:
            status = type(error).__name__
        self.answers.append((begun, what, status, time.monotonic() - begun))

    @property
    def failures(self) -> list[tuple[float, str, int | str, float]]:
        return [answer for answer in self.answers if answer[2] not in (200, 201)]

    def __str__(self) -> str:
        return f"{len(self.answers)} requests, {len(self.failures)} failed, p99 {self.p99:.2f} s"

    @property
    def p99(self) -> float:
        """The 99th percentile in seconds, of the requests that are not slow on purpose."""
        times = sorted(seconds for _, what, _, seconds in self.answers if what != "slow")
        return times[int(len(times) * 0.99)]


def kind(number: int) -> str:
    """Of twenty requests, five POST and four are slow."""
    return "POST" if number % 4 == 0 else "slow" if number % 5 == 1 else "GET"
