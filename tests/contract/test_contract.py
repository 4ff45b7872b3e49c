"""Every service's image keeps the contract; so do the minimal variant, and granian in it: one test a promise.

`make contract IMAGE=…` asks the same of any image.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.programs import SCRIPT, WORKER, Script, Worker
from contract.promises import PROMISES, Broken, NotJudged, Promise
from contract.subject import Subject, Wanted
from harness import SERVICES, built

pytestmark = pytest.mark.containers


# What applies to an image of a kind: the promises, and how it is started to be judged by them.
BY_KIND = {"worker": (WORKER, Worker), "script": (SCRIPT, Script)}
HTTP = (PROMISES, Subject)
# Every service; of one the Dockerfile's choices, too: they are its business alone.
CHOICES = [{"VARIANT": "minimal"}, {"SERVER": "granian"}]
WSGI = [service for service in SERVICES if service.kind == "web"][:1]
IMAGES = [*((service, {}) for service in SERVICES), *((service, choice) for service in WSGI for choice in CHOICES)]
CASES = [
    pytest.param((service, choices), promise, id="-".join([service.name, *choices.values(), str(promise.number)]))
    for service, choices in IMAGES
    for promise in BY_KIND.get(service.kind, HTTP)[0]
]


@pytest.fixture(scope="module")
def subject(request: pytest.FixtureRequest, checkout: Path) -> Iterator[Subject]:
    service, choices = request.param
    judged_as = BY_KIND.get(service.kind, HTTP)[1]
    with built(checkout, service.name, KIND=service.image_kind, **choices) as image:
        wanted = Wanted(
            image,
            health="/health/ready",
            migrate=("python", "-m", "chassis.migrations", "upgrade") if service.database else (),
            env={"DRAIN_DELAY": "1"},
        )
        with judged_as(wanted) as subject:
            yield subject


@pytest.mark.parametrize(("subject", "promise"), CASES, indirect=["subject"])
def test_our_image_keeps(promise: Promise, subject: Subject, record_property: Callable[[str, object], None]) -> None:
    try:
        if figure := promise.judge(subject):
            record_property("figure", figure)
    except Broken as broken:
        pytest.fail(f"{broken.seen}\n→ {broken.advice or promise.advice}", pytrace=False)
    except NotJudged as unknown:
        pytest.fail(f"not judged: {unknown}", pytrace=False)
