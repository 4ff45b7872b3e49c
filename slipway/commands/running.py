"""`make log-level` and `make stacks`: what production is asked while it runs, see chassis.server.control.

Standard library only.
"""

import re

from slipway.commands.shared import compose, inventory
from slipway.commands.shared.stop import Stop

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
SECONDS = {"s": 1, "m": 60, "h": 3600}
MOST = 86400  # seconds
ASK = ("python", "-m", "chassis.server.control")


def log_level(level: str = "", s: str = "", duration: str = "") -> None:
    """Another log level for a while, in each process of the replicas."""
    if level.upper() not in LEVELS:
        raise Stop(f"level= takes one of {', '.join(LEVELS)}, not {level!r}")
    ask(s, "level", level.upper(), str(seconds(duration or "10m")))


def stacks(s: str = "") -> None:
    """Every thread's stack, into the replicas' logs."""
    ask(s, "stacks")
    print(f"make logs{f' s={s}' if s else ''} shows them.")


def seconds(duration: str) -> int:
    """Raises Stop."""
    found = re.fullmatch(r"(\d+)([smh])", duration)
    if not found or not 0 <= (number := int(found[1]) * SECONDS[found[2]]) <= MOST:
        raise Stop(f"for= takes a time up to 24h, such as 30s, 10m or 1h, not {duration!r}")
    return number


def replicas(s: str) -> list[str]:
    """Those of production by that name, or by that of their service; all without one. Raises Stop."""
    known = {service.name: service.replicas for service in inventory.all() if service.replicas}
    every = [replica for each in known.values() for replica in each]
    found = list(known.get(s, [each for each in every if s in ("", each)]))
    if not found:
        raise Stop(f"nothing in production is called {s}: s= takes {', '.join(dict.fromkeys([*known, *every]))}")
    return found


def ask(s: str, *words: str) -> None:
    """Prints what each process answers. Raises Stop at the first replica that can't be asked."""
    for replica in replicas(s):
        said = compose.expect(compose.compose("exec", "-T", replica, *ASK, *words), f"{replica} can't be asked")
        for line in said.splitlines():
            print(f"{replica}: {line}")
