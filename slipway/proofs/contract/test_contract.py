"""Every service's image keeps the contract, and so does its minimal variant: one test for each promise.

`make contract IMAGE=…` checks the same for any image.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from slipway.proofs.contract import kinds
from slipway.proofs.contract.kinds import judged
from slipway.proofs.contract.promises import PROMISES, Broken, NotJudged, Promise
from slipway.proofs.contract.subject import Subject
from slipway.proofs.harness import SERVICES, Service

pytestmark = [pytest.mark.containers, pytest.mark.alone]


# Every service; the minimal variant of only one, since it depends on the Dockerfile alone.
WSGI = [service for service in SERVICES if service.kind == "web"][:1]
IMAGES = [*((service, {}) for service in SERVICES), *((service, {"VARIANT": "minimal"}) for service in WSGI)]
CASES = [
    pytest.param(image, promise, id="-".join([image[0].name, *image[1].values(), str(promise.number)]))
    for image in IMAGES
    for promise in kinds.BY_NAME[image[0].kind].promises
]
# Another server is another process in the same image.
CASES += [
    pytest.param((service, {"SERVER": "uwsgi"}), promise, id=f"{service.name}-uwsgi-{promise.number}")
    for service in WSGI
    for promise in PROMISES
    if promise.group == "Process"
]
Image = tuple[Service, dict[str, str]]


@pytest.fixture(scope="module")
def subjects(checkout: Path) -> Iterator[Callable[[Image], Subject]]:
    """The subject of an image: created for its first promise, kept for the others, and removed for the next image's.

    As a parametrized fixture it would be created for each promise, since its parameter would be part of each test.
    """
    latest: list = [None, None]
    with ExitStack() as opened:

        def subject(image: Image) -> Subject:
            if latest[0] != image:
                opened.close()
                latest[:] = None, None
                latest[:] = image, opened.enter_context(judged(checkout, *image))
            return latest[1]

        yield subject


@pytest.mark.parametrize(("image", "promise"), CASES)
def test_our_image_keeps(
    promise: Promise,
    image: Image,
    subjects: Callable[[Image], Subject],
    record_property: Callable[[str, object], None],
) -> None:
    subject = subjects(image)
    try:
        if figure := promise.judge(subject):
            record_property("figure", figure)
    except Broken as broken:
        pytest.fail(f"{broken.seen}\n→ {broken.advice or promise.advice}", pytrace=False)
    except NotJudged as unknown:
        pytest.fail(f"not judged: {unknown}", pytrace=False)
