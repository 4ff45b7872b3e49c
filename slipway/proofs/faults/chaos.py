"""`make chaos [SECONDS=180 SEED=…]`: production under steady load, a fault every 8 s, and a ledger of what was written.

Each second 20 writes, each with a unique title, and 30 reads go through the proxy over TLS, on time whether or not
earlier ones are answered. A failed request counts against the fault during which it began. The exit code is 1 if a
fault cost more than its bound, or an acknowledged write is missing or doubled.
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx

from slipway.proofs import needs
from slipway.proofs.faults.injection import (
    Faulty,
    faulty_production,
    fill_the_disk,
    free_the_disk,
    kill,
    silent_resolver,
)
from slipway.proofs.harness import copy_tree, wait_until, with_probe
from slipway.proofs.stack.loadtest import LoadTest

OVERLAY = "slipway/proofs/faults/small-disk.yaml:slipway/proofs/faults/chaos.yaml"
SLOT = 8.0  # seconds from one fault to the next
HOLD = 3.0  # duration in seconds of a fault that does not end by itself
CUT_OFF = 6.0  # seconds: longer than a connection takes to give up (tcp_user_timeout)
CALM = 2.0  # seconds of good answers before the next fault: the proxy asks each replica once a second
HEALED = 60.0  # seconds within which a fault must have healed
REPLICAS = ("web-a", "web-b")
JSON = {"Accept": "application/json"}
GOOD = {"GET": 200, "POST": 201}
REFUSED = "The database does not answer"  # how the app's own 503 begins


@dataclass
class Request:
    number: int
    method: str
    begun: float
    status: int | str = "not answered"
    seconds: float = 0.0
    said: str = ""  # with a bad status: why

    @property
    def good(self) -> bool:
        return self.status == GOOD[self.method]


@dataclass
class Load(LoadTest):
    """The steady load, and what became of each request."""

    requests: list[Request] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    async def ask(self, client: httpx.AsyncClient, number: int) -> None:
        """Two of five requests write. The titles are long, so that a full disk is noticed within seconds."""
        request = Request(number, "POST" if number % 5 < 2 else "GET", time.monotonic())
        self.requests.append(request)
        what = {"json": {"title": f"{number} {'x' * 250}"}} if request.method == "POST" else {}
        path = "/probe/rows" if what else "/probe/rows/1"
        try:
            answer = await client.request(request.method, self.url + path, headers=JSON, **what)
            request.status = answer.status_code
            request.said = "" if request.good else reason(answer)
        except httpx.HTTPError as error:
            request.status = type(error).__name__
        request.seconds = time.monotonic() - request.begun

    def between(self, begun: float, ended: float) -> list[Request]:
        return [request for request in self.requests if begun <= request.begun < ended]

    def calm_since(self, moment: float) -> bool:
        """Whether requests that began after that moment have been answered for CALM seconds, without a failure."""
        since = [request for request in self.requests if request.begun > moment and request.seconds]
        failed = max((request.begun for request in since if not request.good), default=moment)
        return any(request.good and request.begun > failed + CALM for request in since)


def reason(answer: httpx.Response) -> str:
    """The sentence of an error, the app's or the proxy's."""
    try:
        return answer.json()["detail"].partition(".")[0]
    except (ValueError, KeyError):
        return answer.text[:60]


@dataclass(frozen=True)
class Fault:
    name: str
    bound: int  # failed requests that it may cost
    happen: Callable[[Faulty, str, Load], object]  # what is done to the stack, or to this replica; heals by itself
    refuses: bool = False  # writes, by the app's 503, which do not count as failures


@dataclass
class Slot:
    """A fault, and the requests that began in its time."""

    fault: Fault
    requests: list[Request]

    @property
    def refused(self) -> list[Request]:
        if not self.fault.refuses:
            return []
        app = [request for request in self.requests if request.status == 503 and request.said.startswith(REFUSED)]
        return [request for request in app if request.method == "POST"]

    @property
    def failed(self) -> list[Request]:
        return [request for request in self.requests if not request.good and request not in self.refused]

    @property
    def over(self) -> bool:
        return len(self.failed) > self.fault.bound

    def __str__(self) -> str:
        longest = max((request.seconds for request in self.requests), default=0.0)
        line = f"  {self.fault.name:<24}{len(self.failed):>4} failed, at most {self.fault.bound:>2}, "
        line += f"longest answer {longest:5.2f} s" + (f", {len(self.refused)} writes refused" if self.refused else "")
        kinds = Counter(f"{r.method} {r.status}{' ' if r.said else ''}{r.said}" for r in self.failed)
        return "\n".join([line, *(f"      {number} x {kind}" for kind, number in kinds.most_common())])


@dataclass
class Ledger:
    """The writes that were acknowledged against the rows that are there, each by its number."""

    requests: Iterable[Request]
    rows: Iterable[int]

    def __post_init__(self) -> None:
        acknowledged = {request.number for request in self.requests if request.method == "POST" and request.good}
        stored = Counter(self.rows)
        self.acknowledged = len(acknowledged)
        self.missing = len(acknowledged - stored.keys())
        self.doubled = sum(times > 1 for times in stored.values())
        self.unacknowledged = len(stored.keys() - acknowledged)

    def __str__(self) -> str:
        return (
            f"writes: {self.acknowledged} acknowledged, {self.missing} missing, {self.doubled} doubled, "
            f"{self.unacknowledged} stored without acknowledgement"
        )


def worker_killed(stack: Faulty, replica: str, load: Load) -> None:
    kill(min(stack.workers(replica)))


def replica_killed(stack: Faulty, replica: str, load: Load) -> None:
    kill(stack.pid(replica))


def replica_restarted(stack: Faulty, replica: str, load: Load) -> None:
    stack.compose("restart", replica)


def replica_cut_off(stack: Faulty, replica: str, load: Load) -> None:
    network, container = f"{stack.project}_back", stack.container(replica)["Id"]
    stack.run("docker", "network", "disconnect", network, container)
    time.sleep(CUT_OFF)
    stack.run("docker", "network", "connect", "--alias", replica, network, container)


def postgres_killed(stack: Faulty, replica: str, load: Load) -> None:
    kill(stack.pid("db"))


def postgres_restarted(stack: Faulty, replica: str, load: Load) -> None:
    stack.compose("restart", "db")


def postgres_frozen(stack: Faulty, replica: str, load: Load) -> None:
    container = stack.container("db")["Id"]
    stack.run("docker", "pause", container)
    time.sleep(HOLD)
    stack.run("docker", "unpause", container)
    # The engine calls a paused container unhealthy until its next check, and a deploy would not start.
    wait_until("healthy, says the engine", lambda: stack.container("db")["State"]["Health"]["Status"] == "healthy")


def sessions_ended(stack: Faulty, replica: str, load: Load) -> None:
    stack.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'web'")


def proxy_restarted(stack: Faulty, replica: str, load: Load) -> None:
    stack.compose("restart", "proxy")


def resolver_silent(stack: Faulty, replica: str, load: Load) -> None:
    """Idle connections have to be opened again meanwhile, and nothing in flight is cut."""
    with silent_resolver(stack, replica):
        stack.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'web' AND state = 'idle'")
        time.sleep(HOLD)


def disk_full(stack: Faulty, replica: str, load: Load) -> None:
    refused = lambda: sum(request.status == 503 for request in load.requests)  # noqa: E731
    before = refused()
    fill_the_disk(stack)
    try:
        wait_until("refused writes", lambda: refused() - before > 20)
    finally:
        free_the_disk(stack)


def deployed(stack: Faulty, replica: str, load: Load) -> None:
    tag = f"chaos-{len(load.requests)}"
    stack.run("docker", "tag", stack.container(replica)["Image"], stack.image(tag))
    stack.make("deploy", f"TAG={tag}")


FAULTS = (
    Fault("worker killed", 1, worker_killed),  # a write that it was processing, which must not be sent twice
    Fault("replica killed", 1, replica_killed),
    Fault("replica restarted", 0, replica_restarted),
    Fault("replica cut off", 3, replica_cut_off),
    Fault("Postgres killed", 60, postgres_killed),
    Fault("Postgres restarted", 20, postgres_restarted),
    Fault("Postgres frozen", 20, postgres_frozen),
    Fault("all sessions ended", 0, sessions_ended),
    Fault("proxy restarted", 8, proxy_restarted),  # connections wait, but for those that had asked for nothing yet
    Fault("resolver silent", 0, resolver_silent),
    Fault("disk full", 0, disk_full, refuses=True),
    Fault("deploy", 0, deployed),
)


def plan(seed: int) -> Iterator[tuple[Fault, str]]:
    """Rounds of all kinds, each in a different order, with the replica for faults that happen to one."""
    chance = random.Random(seed)
    while True:
        for fault in chance.sample(FAULTS, len(FAULTS)):
            yield fault, chance.choice(REPLICAS)


def ready(stack: Faulty) -> bool:
    """Both replicas, as the proxy sees them."""
    ask = " && ".join(f"wget -q -T 2 -O /dev/null http://{replica}:8000/health/ready" for replica in REPLICAS)
    return stack.compose("exec", "-T", "proxy", "sh", "-c", ask, check=False).returncode == 0


def endure(stack: Faulty, load: Load, fault: Fault, replica: str) -> Slot:
    """Causes the fault, and returns once it has healed and its time is over."""
    begun = time.monotonic()
    fault.happen(stack, replica, load)
    wait_until(f"both replicas ready after: {fault.name}", lambda: ready(stack), HEALED)
    healed = time.monotonic()
    wait_until(f"good answers again after: {fault.name}", lambda: load.calm_since(healed), HEALED)
    time.sleep(max(0.0, begun + SLOT - time.monotonic()))
    ended = time.monotonic()
    answered = lambda: all(request.seconds for request in load.between(begun, ended))  # noqa: E731
    wait_until(f"all answers after: {fault.name}", answered, HEALED)
    return Slot(fault, load.between(begun, ended))


def chaos(stack: Faulty, seconds: float, seed: int) -> list[str]:
    """Prints a line for each fault and the ledger; returns what is wrong."""
    problems = []
    stack.sql("INSERT INTO probe (title) VALUES ('read')")
    with Load(f"https://localhost:{stack.environment['HTTPS_PORT']}", stack.authority()) as load:
        wait_until("load", lambda: len(load.requests) > 50 and load.calm_since(0))
        begun = time.monotonic()
        for fault, replica in plan(seed):
            if time.monotonic() + SLOT > begun + seconds:
                break
            try:
                slot = endure(stack, load, fault, replica)
            except AssertionError as failure:  # nothing that follows would depend on this seed
                problems.append(str(failure))
                break
            print(slot, flush=True)
            if slot.over:
                problems.append(f"{fault.name}: {len(slot.failed)} failed requests, at most {fault.bound} may")
    titles = stack.sql("SELECT split_part(title, ' ', 1) FROM probe WHERE title <> 'read'")
    ledger = Ledger(load.requests, map(int, titles.split()))
    print(f"{len(load.requests)} requests, {sum(not r.good for r in load.requests)} without their answer\n{ledger}")
    if ledger.missing or ledger.doubled:
        problems.append(f"{ledger.missing} acknowledged writes are missing, {ledger.doubled} are doubled")
    return problems


def number(name: str, default: int) -> int:
    text = os.environ.get(f"CHAOS_{name}") or str(default)  # not SECONDS, which bash would keep counting
    if not (text.isascii() and text.isdigit()):
        sys.exit(f"make chaos: {name}={text} is not a whole number")
    return int(text)


def main() -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if a shell has started this in the background
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    seconds, seed = number("SECONDS", 180), number("SEED", random.randrange(10**6))
    if seconds < SLOT:
        sys.exit(f"make chaos: SECONDS={seconds} has no room for a fault, which takes {SLOT:g}")
    if problem := needs.engine_problem():
        sys.exit(f"make chaos: {problem}")
    again = f"make chaos SECONDS={seconds} SEED={seed}"
    print(f"seed {seed}; again: {again}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        tree = with_probe(copy_tree(Path(directory)))
        try:
            with faulty_production(tree, OVERLAY) as stack:
                problems = chaos(stack, seconds, seed)
        except AssertionError as failure:
            problems = [str(failure)]
    for problem in problems:
        print(f"make chaos: {problem}", file=sys.stderr)
    if problems:
        print(f"make chaos: to run it again: {again}", file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
