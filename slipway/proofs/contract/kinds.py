"""Each kind of service: how an image of it is started to check the promises, and which do not apply to it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from slipway.proofs.contract.programs import SCRIPT, WORKER, Script, Worker
from slipway.proofs.contract.promises import OURS, PROMISES, Promise
from slipway.proofs.contract.subject import Subject, Wanted
from slipway.proofs.harness import Service, built

NO_REQUESTS = "no request is sent to it"
BY_ITSELF = "it ends by itself, and nothing waits for its stop"


class Kind(NamedTuple):
    start: Callable[[Wanted], Subject]
    promises: list[Promise]
    without: Mapping[int, str] = {}  # promises that do not apply, each with its reason


HTTP = Kind(Subject, [*PROMISES, *OURS])
BY_NAME = {
    "web": HTTP,
    "asgi": HTTP,
    "static": HTTP,
    "worker": Kind(
        Worker,
        WORKER,
        {
            17: NO_REQUESTS,
            18: "only its own tests know the work that a second SIGTERM cuts short",
            19: "it is one process, which Docker restarts",
            22: NO_REQUESTS,
        },
    ),
    "script": Kind(
        Script,
        SCRIPT,
        {
            3: "it has no health check",
            14: BY_ITSELF,
            15: BY_ITSELF,
            16: BY_ITSELF,
            17: NO_REQUESTS,
            18: BY_ITSELF,
            19: "it is one process, and its exit code says how it went",
            22: NO_REQUESTS,
        },
    ),
}


@contextmanager
def judged(checkout: Path, service: Service, choices: Mapping[str, str] = {}) -> Iterator[Subject]:
    """A service's image, built with these arguments and started to be judged."""
    with built(checkout, service, **choices) as image:
        wanted = Wanted(
            image,
            health="/health/ready" if service.serves else "",
            migrate=("python", "-m", "chassis.db.migrations", "upgrade") if service.database else (),
            env={"DRAIN_DELAY": "1"},
        )
        with BY_NAME[service.kind].start(wanted) as subject:
            yield subject
