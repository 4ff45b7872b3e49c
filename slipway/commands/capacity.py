"""`make capacity rps=5000 query_ms=3`: what so many requests a second take, and which limit they meet first.

Each resource is looked at by itself: what there is of it, over what a request takes of it, is the rate that uses it up,
and `busy` is the share to plan with. What a request takes is measured by `make bench-capacity`, which also compares
this model with a curve. Standard library only.
"""

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from slipway.commands.shared import connections, proxy
from slipway.commands.shared.connections import MAX_CONNECTIONS, SPARE, number, setting
from slipway.commands.shared.stop import Stop

MEASURED = Path(__file__).parents[1] / "bench/results/capacity.json"
MIB = 2**20


@dataclass(frozen=True)
class Costs:
    """Milliseconds of CPU that a request takes, with one short query; and MiB."""

    app_ms: float
    query_ms: float  # of Postgres
    caddy_ms: float
    nginx_ms: float
    base_mib: float  # a replica without its workers
    worker_mib: float
    worker_cpus: float  # what one worker uses at most: it also waits for its queries


class Replica(NamedTuple):
    cpus: float
    workers: int
    threads: int  # of each worker

    def rate(self, worker_cpus: float, app_ms: float, wait_ms: float = 0) -> float:
        """Requests a second that use up its CPUs, or its threads where requests mostly wait."""
        usable = min(self.cpus, self.workers * worker_cpus)
        return 1e3 * min(usable / app_ms, self.workers * self.threads / (app_ms + wait_ms))


def server_rate(cpus: float, *each_ms: float) -> float:
    """Requests a second that use up a server on which all of these run."""
    return 1e3 * cpus / sum(each_ms)


class Limit(NamedTuple):
    rate: float
    what: str
    then: str


def capacity(
    rps: str = "100",
    query_ms: str = "",
    app_ms: str = "",
    wait_ms: str = "0",
    busy: str = "70",
    server_cpus: str = "",
    server_memory: str = "",
) -> None:
    """Prints the plan. What is not given is what was measured (`query_ms`, `app_ms`), this machine's (`server_…`, GiB),
    or as `.env` sets it: WEB_CPUS, DATABASE_CONNECTIONS and so on, which make takes as words, too."""
    costs = Costs(**json.loads(MEASURED.read_text())["costs"])
    try:
        plan = Plan(
            costs=costs,
            rps=amount("rps", rps),
            app_ms=amount("app_ms", app_ms or f"{costs.app_ms:.2f}"),
            query_ms=amount("query_ms", query_ms or f"{costs.query_ms:.2f}"),
            wait_ms=amount("wait_ms", wait_ms, zero=True),
            busy=amount("busy", busy) / 100,
            replica=replica(),
            proxy=proxy.name(),
            server_cpus=amount("server_cpus", server_cpus or str(os.cpu_count() or 1)),
            server_gib=amount("server_memory", server_memory or f"{memory_gib():.1f}"),
        )
        if plan.busy > 1:
            raise Stop(f"busy must be a percentage, 100 at most, not {busy!r}")
        print("\n".join(plan.report()))
    except ValueError as error:
        raise Stop(str(error)) from None


def amount(name: str, text: str, zero: bool = False) -> float:
    """Raises Stop for what is not a number above 0, or 0 where that is one, too."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not (0 < found < 1e9 or (zero and found == 0)):
        raise Stop(f"{name} must be a number{', 0 or more' if zero else ' above 0'}, not {text!r}")
    return found


def replica() -> Replica:
    cpus = amount("WEB_CPUS", setting("WEB_CPUS"))
    workers = number("WEB_CONCURRENCY") or connections.sized(cpus, size("WEB_MEMORY"))
    return Replica(cpus, workers, int(amount("WEB_THREADS", str(number("WEB_THREADS")))))


def size(name: str) -> int:
    """Bytes."""
    return int(amount(name, str(number(name, unit="([bkmg]?)b?") / MIB)) * MIB)


def memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


@dataclass(frozen=True)
class Plan:
    costs: Costs
    rps: float
    app_ms: float
    query_ms: float
    wait_ms: float
    busy: float
    replica: Replica
    proxy: str
    server_cpus: float
    server_gib: float

    @property
    def proxy_ms(self) -> float:
        return self.costs.nginx_ms if self.proxy == "nginx" else self.costs.caddy_ms

    @property
    def each(self) -> float:
        """The requests a second to plan with, of one replica."""
        return self.busy * self.replica.rate(self.costs.worker_cpus, self.app_ms, self.query_ms + self.wait_ms)

    @property
    def held_by(self) -> str:
        by_its_cpu = self.busy * self.replica.rate(self.costs.worker_cpus, self.app_ms)
        return "WEB_CPUS" if by_its_cpu <= self.each else "WEB_THREADS"

    @property
    def replicas(self) -> int:
        """One more than the load takes: a deploy, or a failure, takes one out."""
        return math.ceil(self.rps / self.each) + 1

    @property
    def connections(self) -> int:
        """Of one replica."""
        return self.replica.workers * (self.replica.threads + 1)

    def limits(self) -> list[Limit]:
        """The one that is met first at the beginning."""
        limit, web = number("DATABASE_CONNECTIONS"), size("WEB_MEMORY")
        room = self.server_gib * 2**30 - size("DATABASE_MEMORY") - size("PROXY_MEMORY")
        shared = server_rate(self.server_cpus, self.app_ms, self.query_ms, self.proxy_ms)
        return sorted(
            Limit(rate, what, then)
            for rate, what, then in (
                (self.of(2), "the pair of replicas", f"{self.held_by}; more replicas, on Swarm or Kubernetes"),
                (
                    self.used_up("PROXY_CPUS", self.proxy_ms),
                    f"the proxy's CPU ({self.proxy})",
                    f"PROXY_CPUS{', PROXY=nginx' if self.proxy == 'caddy' else ''}; a proxy on each server",
                ),
                (
                    self.used_up("DATABASE_CPUS", self.query_ms),
                    "Postgres's CPU",
                    "an index, a cache, DATABASE_CPUS; a server of its own; read replicas",
                ),
                (
                    self.connected(limit),
                    f"{limit} database connections",
                    f"DATABASE_CONNECTIONS, to {MAX_CONNECTIONS}; fewer threads",
                ),
                (self.connected(MAX_CONNECTIONS), f"{MAX_CONNECTIONS} connections, the most", "PgBouncer"),
                (
                    self.busy * shared,
                    f"one server's {self.server_cpus:g} CPUs",
                    "a bigger server; Postgres elsewhere; several servers",
                ),
                (
                    self.of(max(0, int(room // web))),
                    f"one server's {self.server_gib:g} GiB of memory",
                    "a bigger server; several servers",
                ),
            )
        )

    def of(self, replicas: int) -> float:
        """What they serve while one of them is being replaced."""
        return max(0, replicas - 1) * self.each

    def connected(self, limit: int) -> float:
        return self.of((limit - SPARE) // self.connections)

    def used_up(self, cpus: str, each_ms: float) -> float:
        return self.busy * server_rate(amount(cpus, setting(cpus)), each_ms)

    def cpus(self, each_ms: float) -> str:
        return f"{self.rps * each_ms / 1e3 / self.busy:,.1f}"

    def report(self) -> Iterator[str]:
        replica, count, limits = self.replica, self.replicas, self.limits()
        yield (
            f"{self.rps:,.0f} requests a second; each takes {self.app_ms:g} ms of CPU in the app and"
            f" {self.query_ms:g} ms in Postgres,\n"
            f"and waits {self.wait_ms:g} ms for others. Planned with {self.busy:.0%} of each resource.\n"
        )
        size_of_each = f"{replica.cpus:g} CPU, {replica.workers} workers, {replica.threads} threads in each"
        sample = self.costs.base_mib + replica.workers * self.costs.worker_mib
        for what, value, remark in (
            ("replicas", f"{count:,}", f"{size_of_each}; one of them for deploys and failures"),
            ("requests/s of each", f"{self.each:,.0f}", f"held back by {self.held_by}"),
            ("workers", f"{count * replica.workers:,}", ""),
            ("threads", f"{count * replica.workers * replica.threads:,}", ""),
            ("database connections", f"{count * self.connections:,}", "one for each thread, one for each worker"),
            (
                "memory, GiB",
                f"{count * size('WEB_MEMORY') / 2**30:,.1f}",
                f"WEB_MEMORY, of which the sample uses {sample:.0f} MiB",
            ),
            ("CPUs of the app", self.cpus(self.app_ms), ""),
            ("CPUs of Postgres", self.cpus(self.query_ms), ""),
            (f"CPUs of {self.proxy}", self.cpus(self.proxy_ms), ""),
        ):
            yield f"  {what:<20} {value:>8}  {remark}".rstrip()
        yield f"\n  {'met at':>10}  {'limit':<35}then"
        for limit in limits:
            yield f"{'!' if limit.rate < self.rps else ' '} {limit.rate:>10,.0f}  {limit.what:<35}{limit.then}"
        first = limits[0]
        tense = "is" if first.rate < self.rps else "will be"
        yield f"\nThe first limit {tense} {first.what}, at {first.rate:,.0f} requests a second: {first.then}."
