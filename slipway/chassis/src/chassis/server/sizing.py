"""How many workers a container gets, by the limits of its cgroup."""

import math
import os
from contextlib import suppress
from pathlib import Path

MAX_WORKERS = 4
WORKER_MEMORY = 96 * 2**20  # bytes: a worker starts with 15 MB of its own, and its requests need room


def workers() -> int:
    """One worker per CPU and per WORKER_MEMORY that the container may use, but at least two, so that one can die."""
    return int(min(MAX_WORKERS, max(2, min(math.ceil(cpus()), memory() / WORKER_MEMORY))))


def memory(root: Path = Path("/sys/fs/cgroup")) -> float:
    """The bytes that the cgroup grants (cgroup v2 memory.max, v1 memory.limit_in_bytes); infinite without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            return float(int((root / name).read_text()))
    return math.inf


def cpus(root: Path = Path("/sys/fs/cgroup")) -> float:
    """The CPUs that the cgroup grants (cgroup v2 cpu.max, v1 cpu.cfs_*), or the machine's."""
    machine = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        if (root / "cpu.max").exists():
            quota, period = (root / "cpu.max").read_text().split()
        else:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text()
            period = (root / "cpu/cpu.cfs_period_us").read_text()
        limit = float("inf") if quota.strip() in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):
        return machine
    return min(machine, limit)
