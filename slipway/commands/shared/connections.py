"""How many connections the services' replicas may open in total, and whether Postgres accepts that many.

Every default comes from .env.example, which `make docs` writes. Standard library only.
"""

import math
import os
import re

from slipway.commands import ROOT
from slipway.commands.shared import database, dotenv, inventory
from slipway.commands.shared.inventory import Service

SPARE = 10  # for the superuser, migrations, dumps, and people
MAX_CONNECTIONS = 900  # each is a process, and compose/prod.yaml allows 1000
UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def problem() -> str | None:
    """What to set if Postgres accepts too few, in one line."""
    try:
        return shortage()
    except ValueError as error:
        return str(error)


def shortage() -> str | None:
    """Raises ValueError for a setting that is not a number."""
    limit = number("DATABASE_CONNECTIONS")
    if not SPARE < limit <= MAX_CONNECTIONS:
        return f"DATABASE_CONNECTIONS must be from {SPARE + 1} to {MAX_CONNECTIONS}, not {limit}"
    services = [service for service in inventory.all() if service.database and service.replicas]
    wanted = sum(len(service.replicas) * of_replica(service) for service in services)
    if wanted <= limit - SPARE:
        return None
    enough = math.ceil((wanted + SPARE) / 10) * 10
    then = "run `docker compose up --detach --wait db`, which restarts it"
    if database.elsewhere():
        then = "have Postgres there take as many"
    return (
        f"the replicas of {', '.join(service.name for service in services)} may open {wanted} connections together, and"
        f" Postgres takes {limit}, {SPARE} of them for other work: set DATABASE_CONNECTIONS={enough} in .env and"
        f" {then}, or lower WEB_THREADS"
    )


def of_replica(service: Service) -> int:
    """In each worker process, a pool of one connection for each thread and one for the health check."""
    if not service.serves:
        return 1
    return workers(service) * (number("WEB_THREADS", service) + 1)


def workers(service: Service) -> int:
    cpus = min(float(setting("WEB_CPUS")), os.cpu_count() or 1)
    return number("WEB_CONCURRENCY", service) or sized(cpus, number("WEB_MEMORY", unit="([bkmg]?)b?"))


def sized(cpus: float, memory: int) -> int:
    """The workers of a replica with so many CPUs and bytes, as chassis.server counts them."""
    return int(min(4, max(2, min(math.ceil(cpus), memory / (96 * 2**20)))))


def number(name: str, service: Service | None = None, unit: str = "()") -> int:
    text = setting(name, service)
    if not (match := re.fullmatch(rf"(\d+){unit}", text.lower())):
        raise ValueError(f"{name} can't be read as a number: {text!r}")
    return int(match[1]) * UNITS[match[2]]


def setting(name: str, service: Service | None = None) -> str:
    """The value from the service's compose file, else from `.env`, else the default."""
    path = ROOT / f"compose/{service.name}.yaml" if service else None
    own = re.search(rf"^ +{name}: *[\"']?(\d+)", path.read_text(), re.MULTILINE) if path and path.exists() else None
    default = re.search(rf"^#?{name}=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    return own[1] if own else dotenv.get(name, default[1] if default else "")
