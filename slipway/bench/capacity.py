"""`make bench-capacity`: what a request takes, for `make capacity`, and whether its model is right.

Replicas, and workers, on half a CPU each, with the route that asks the database once: 1, 2 and 4 of them. The costs are
measured on the first alone, and the model says from them what the others serve. Of everything the best round counts:
whatever else the machine does makes a round slower. Writes slipway/bench/results/capacity.* unless the model is off by
more than a quarter; ROUNDS=5 of SECONDS=4 each.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from slipway.bench import proxies, rig
from slipway.bench.rig import ROOT, Rig
from slipway.commands.capacity import Costs, Replica, server_rate

RESULTS = Path(__file__).parent / "results"
IMAGE = "slipway/bench-web:full"
SHARE, THREADS, CONNECTIONS = 0.5, 4, 16  # CPUs of a worker; its threads, fewer than by default; clients of each
CURVE = ((1, 1), (2, 1), (4, 1), (1, 2), (1, 4))  # replicas, and workers of each
WITHIN = 0.25


@dataclass(frozen=True)
class Seen:
    """One round: requests a second, milliseconds of CPU for each of them, and CPUs."""

    rate: float
    app_ms: float
    query_ms: float
    client_ms: float
    app_cpus: float


class Clients:
    """wrk, in one container that stays: its own CPU is a part of what the machine does."""

    def __init__(self, stage: Rig) -> None:
        self.database = stage.container("db")
        self.container = stage.run("client", rig.LOAD, "--cpu-shares=262144", command=("sleep", "infinity"))

    def load(self, replicas: list[str], connections: int, seconds: int) -> Seen:
        def one(replica: str) -> str:
            how = ("--threads=1", f"--connections={connections}", f"--duration={seconds}s", "--timeout=10s")
            return rig.docker("exec", self.container, "wrk", *how, f"http://{replica}:8000/bench/query")

        watched = [self.database, self.container, *replicas]
        before = [rig.cpu(each) for each in watched]
        with ThreadPoolExecutor(len(replicas)) as pool:
            said = list(pool.map(one, replicas))
        spent = [(rig.cpu(each) - former) / 1e9 for each, former in zip(watched, before, strict=True)]
        if bad := re.search(r"Non-2xx.*|Socket errors: (?!connect 0, read 0, write 0, timeout 0).*", "".join(said)):
            raise AssertionError(f"under load: {bad[0]}")
        requests = sum(int(re.search(r"(\d+) requests in", each)[1]) for each in said)
        rate = sum(float(re.search(r"Requests/sec:\s+([\d.]+)", each)[1]) for each in said)
        query, client, app = (1e3 * each / requests for each in (*spent[:2], sum(spent[2:])))
        return Seen(rate, app, query, client, app * rate / 1e3)


def main(rounds: int, seconds: int) -> None:
    rig.build_references()
    rig.build(ROOT, IMAGE)
    with Rig() as stage:
        rig.docker("update", "--cpu-shares=262144", stage.container("db"))
        clients = Clients(stage)
        shapes = {f"{replicas}x{workers}": (replicas, workers, SHARE * workers) for replicas, workers in CURVE}
        shapes["one worker"] = (1, 1, 1.0)
        groups = {name: started(stage, name, *shape) for name, shape in shapes.items()}
        seen: dict[str, list[Seen]] = {name: [] for name in groups}
        for turn in range(rounds + 1):  # the first one warms
            for name, replicas in groups.items():
                found = clients.load(replicas, CONNECTIONS * shapes[name][1], seconds if turn else 1)
                if turn:
                    seen[name].append(found)
                    print(f"{name:10} {found}", file=sys.stderr, flush=True)
        memory = {workers: rig.memory(groups[f"1x{workers}"][0]) for workers in (1, 4)}
    through = proxies.measure(rig.own("ours", IMAGE), IMAGE, rounds, seconds, ("query",))
    worker_mib = (memory[4] - memory[1]) / 3
    costs = Costs(
        app_ms=least(seen["1x1"], lambda each: each.app_ms),
        query_ms=least(seen["1x1"], lambda each: each.query_ms),
        caddy_ms=median(through["caddy_query_cpu_ours"]) / 1e3,
        nginx_ms=median(through["nginx_query_cpu_ours"]) / 1e3,
        base_mib=memory[1] - worker_mib,
        worker_mib=worker_mib,
        worker_cpus=min(1.0, max(each.app_cpus for each in seen["one worker"])),
    )
    client_ms = least(seen["1x1"], lambda each: each.client_ms)
    curve = [point(costs, client_ms, *shape, seen[f"{shape[0]}x{shape[1]}"]) for shape in CURVE]
    write(costs, curve)


def started(stage: Rig, name: str, replicas: int, workers: int, cpus: float) -> list[str]:
    """Replicas that answer. Whatever else runs in containers, they come first, after Postgres and the clients."""
    limits = (f"--cpus={cpus}", "--memory=512m", "--cpu-shares=65536")
    names = [f"{name.replace(' ', '-')}-{number}" for number in range(replicas)]
    settings = {"WEB_CONCURRENCY": workers, "WEB_THREADS": THREADS}
    return [stage.start(rig.own(each, IMAGE, **settings), *limits) for each in names]


def least(seen: list[Seen], of: Callable[[Seen], float]) -> float:
    return min(map(of, seen))


def point(costs: Costs, client_ms: float, replicas: int, workers: int, seen: list[Seen]) -> dict[str, float]:
    """What was measured, and what the model says: each replica by itself, and all that runs on this machine."""
    each = Replica(SHARE * workers, workers, THREADS).rate(costs.worker_cpus, costs.app_ms, costs.query_ms)
    machine = server_rate(os.cpu_count() or 1, costs.app_ms, costs.query_ms, client_ms)
    measured = max(each.rate for each in seen)
    return {"replicas": replicas, "workers": workers, "measured": measured, "model": min(replicas * each, machine)}


def write(costs: Costs, curve: list[dict[str, float]]) -> None:
    table = [*HEADING, *map(row, curve)]
    print("\n".join(table))
    if off := [each for each in curve if abs(each["model"] / each["measured"] - 1) > WITHIN]:
        raise AssertionError(f"{len(off)} of {len(curve)} points are off by more than {WITHIN:.0%}; nothing is written")
    found = {"machine": rig.machine(), "costs": rounded(asdict(costs)), "curve": [rounded(each) for each in curve]}
    (RESULTS / "capacity.json").write_text(json.dumps(found, indent=2) + "\n")
    title = f"# Replicas and workers on half a CPU each, and the model of `make capacity` ({found['machine']})"
    (RESULTS / "capacity.md").write_text("\n".join([title, "", *table]) + "\n")
    print(f"written to {RESULTS.relative_to(ROOT)}/capacity.*")


def rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


HEADING = [
    "| replicas | workers of each | req/s | by the model | off by |",
    "|--:|--:|--:|--:|--:|",
]


def row(each: dict[str, float]) -> str:
    off = each["model"] / each["measured"] - 1
    return f"| {each['replicas']} | {each['workers']} | {each['measured']:.0f} | {each['model']:.0f} | {off:+.0%} |"


if __name__ == "__main__":
    try:
        main(int(os.environ.get("ROUNDS") or 5), int(os.environ.get("SECONDS") or 4))
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"make bench-capacity: {error}")
