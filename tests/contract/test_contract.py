"""Our image keeps the contract: one test a promise. `make contract IMAGE=…` asks the same of any image."""

from collections.abc import Iterator

import pytest

from contract.promises import PROMISES, Broken, NotJudged, Promise
from contract.subject import Subject, Wanted

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def subject(image: str) -> Iterator[Subject]:
    wanted = Wanted(
        image,
        health="/health/ready",
        migrate=("python", "-m", "chassis.migrations", "upgrade"),
        env={"DRAIN_DELAY": "1"},
    )
    with Subject(wanted) as subject:
        yield subject


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: f"{promise.number}-{promise.name}")
def test_our_image_keeps(promise: Promise, subject: Subject) -> None:
    if fault := what_is_wrong(promise, subject):
        pytest.fail(fault, pytrace=False)


def what_is_wrong(promise: Promise, subject: Subject) -> str | None:
    try:
        promise.judge(subject)
    except Broken as broken:
        return f"{broken.seen}\n→ {broken.advice or promise.advice}"
    except NotJudged as unknown:
        return f"not judged: {unknown}"
    return None
