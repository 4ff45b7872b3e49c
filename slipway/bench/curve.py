"""`make bench-curve`: what workers, threads and open connections do to one replica, as production limits it.

One CPU, 512 MB, the route that asks the database once. Writes slipway/bench/results/curve.md; SECONDS=5 a point.
"""

import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from slipway.bench import rig
from slipway.bench.rig import ROOT, Rig

IMAGE = "slipway/bench-web:full"
LIMITS = ("--cpus=1", "--memory=512m")
THREADS, WORKERS, CONNECTIONS = (1, 2, 4, 8, 16), (1, 2, 4), (50, 200, 500, 1000)
BUSY = 0.9  # share of the limit above which the resource counts as what holds it back


class Point(NamedTuple):
    workers: int
    threads: int
    connections: int
    rate: float
    p99: float
    app: float  # CPUs in use
    database: float
    memory: float  # MiB

    @property
    def limit(self) -> str:
        """What was used up; if nothing was, requests waited for a thread."""
        if self.app > BUSY:
            return "the replica's CPU"
        if self.database > BUSY:
            return "the database's CPU"
        return "threads" if self.workers * self.threads < self.connections else "the load"


def main(seconds: int) -> None:
    rig.build_references()
    rig.build(ROOT, IMAGE)
    shapes = [(workers, threads, 50) for workers in WORKERS for threads in THREADS]
    shapes += [(2, 8, connections) for connections in CONNECTIONS if connections != 50]
    points = []
    with Rig() as stage:
        for number, shape in enumerate(shapes):
            points.append(measured(stage, number, *shape, seconds))
            print(row(points[-1]), file=sys.stderr, flush=True)
    results = Path(__file__).parent / "results/curve.md"
    results.parent.mkdir(exist_ok=True)
    results.write_text("\n".join([*HEADING, *map(row, points)]) + "\n")
    print(f"written to {results.relative_to(ROOT)}")


def measured(stage: Rig, number: int, workers: int, threads: int, connections: int, seconds: int) -> Point:
    name = f"shape-{number}"
    each = rig.own(name, IMAGE, WEB_CONCURRENCY=workers, WEB_THREADS=threads)
    container, database = stage.start(each, *LIMITS), stage.container("db")
    url = f"http://{container}:8000/bench/query"
    stage.load(container, url, 1, connections)
    before, begun = (rig.cpu(container), rig.cpu(database)), time.monotonic()
    load = stage.load(container, url, seconds, connections)
    took = (time.monotonic() - begun) * 1e9
    app, asked = ((rig.cpu(each) - spent) / took for each, spent in zip((container, database), before, strict=True))
    memory = rig.memory(container)
    stage.remove(name)
    share = took / (seconds * 1e9)  # wrk's own start and end are idle time of the replica
    return Point(workers, threads, connections, load.rate, load.p99, app * share, asked * share, memory)


HEADING = [
    f"# One replica, one CPU, one query a request ({rig.machine()})",
    "",
    "| workers | threads | open connections | req/s | p99 ms | replica's CPUs | database's CPUs | MiB | held back by |",
    "|--:|--:|--:|--:|--:|--:|--:|--:|---|",
]


def row(point: Point) -> str:
    return (
        f"| {point.workers} | {point.threads} | {point.connections} | {point.rate:.0f} | {point.p99:.0f} |"
        f" {point.app:.2f} | {point.database:.2f} | {point.memory:.0f} | {point.limit} |"
    )


if __name__ == "__main__":
    try:
        main(int(os.environ.get("SECONDS") or 5))
    except (AssertionError, OSError) as error:
        sys.exit(f"make bench-curve: {error}")
