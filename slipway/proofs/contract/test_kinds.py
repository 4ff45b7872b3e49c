"""Images of what `make service` makes keep the contract, and an ASGI service's event loop never waits for Postgres.

The images are judged side by side: most of the time is waiting. A worker, and what differs in an ASGI service without a
database, are judged in a fork (test_fork_ci.py), web services in test_contract.py.
"""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from slipway.commands.shared import inventory
from slipway.proofs.contract import kinds
from slipway.proofs.contract.container import docker
from slipway.proofs.contract.promises import OURS, PROMISES, Broken, NotJudged, Promise
from slipway.proofs.contract.subject import Subject
from slipway.proofs.faults.injection import Load
from slipway.proofs.forks.fork import Fork
from slipway.proofs.harness import ROOT, wait_until

pytestmark = [pytest.mark.containers, pytest.mark.alone]

SERVICES = {
    "orders": {"kind": "asgi", "db": "yes"},
    "flows": {"kind": "asgi", "framework": "fastapi", "db": "yes"},
    "ui": {"kind": "static"},
    "report": {"kind": "script"},
}
WITH_DATABASE = ("orders", "flows")
AT_A_TIME = 4  # images
MAX_LAG = 1.0  # seconds that a page without a database may take; on an idle machine it takes 0.05
LOCKED = 2.5  # seconds that a statement waits for a lock: more than that
# As `make service` does for one, with one lock for all of them, and without the environment.
MAKE = f"""
from slipway.commands import service
from slipway.commands.shared import git, templates
given = dict.fromkeys(("db", "path", "host", "framework"), "")
newest = templates.newest()
for name, words in {SERVICES!r}.items():
    answers = service.words(service.check(name, **given | words)) | {{"template": newest}}
    git.git("checkout", templates.render(newest, answers), "--", ".")
    service.include(lambda files: [*files, f"compose/{{name}}.yaml"])
service.lock()
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This tree with a service of each kind."""
    fork = Fork(tmp_path_factory.mktemp("kinds"))
    environment = {**fork.environment, "PYTHONPATH": str(fork.directory), "UV": str(ROOT / ".cache/uv/bin/uv")}
    fork.run(sys.executable, "-c", MAKE, env=environment)
    return fork.directory


@pytest.fixture(scope="module")
def subjects(tree: Path) -> Iterator[dict[str, Subject]]:
    """A subject of each service."""

    def start(name: str) -> Subject:
        service = inventory.read(tree / "services" / name / "pyproject.toml")
        return opened.enter_context(kinds.judged(tree, service))

    with ExitStack() as opened, ThreadPoolExecutor(AT_A_TIME) as pool:
        yield dict(zip(SERVICES, pool.map(start, SERVICES), strict=True))


@pytest.fixture(scope="module")
def verdicts(subjects: dict[str, Subject]) -> dict[str, dict[int, Future]]:
    """For each service, what judging each promise that applies to its kind returned or raised."""

    def judge(name: str) -> dict[int, Future]:
        return {each.number: outcome(each, subjects[name]) for each in promises(name)}

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return dict(zip(SERVICES, pool.map(judge, SERVICES), strict=True))


def promises(name: str) -> list[Promise]:
    return kinds.BY_NAME[SERVICES[name]["kind"]].promises


def outcome(promise: Promise, subject: Subject) -> Future:
    found: Future = Future()
    try:
        found.set_result(promise.judge(subject))
    except Exception as error:
        found.set_exception(error)
    return found


@pytest.mark.parametrize(
    ("name", "promise"),
    [pytest.param(name, each, id=f"{name}-{each.number}") for name in SERVICES for each in promises(name)],
)
def test_an_image_of_every_kind_keeps(name, promise, verdicts, record_property):
    try:
        if figure := verdicts[name][promise.number].result():
            record_property("figure", figure)
    except (Broken, NotJudged) as problem:
        pytest.fail(f"{problem}\n→ {getattr(problem, 'advice', '') or promise.advice}", pytrace=False)


def test_what_does_not_apply_to_a_kind_is_named():
    everywhere = {each.number for each in [*PROMISES, *OURS]}
    for name, kind in kinds.BY_NAME.items():
        assert {each.number for each in kind.promises} | kind.without.keys() == everywhere, name
        assert not {each.number for each in kind.promises} & kind.without.keys(), name
    text = (ROOT / "docs/services.md").read_text()
    for name, kind in kinds.BY_NAME.items():
        for number, reason in kind.without.items():
            assert f"| `{name}` | {number} | {reason} |" in text


@pytest.fixture(scope="module")
def loops(subjects: dict[str, Subject], verdicts: object) -> dict[str, "Loop"]:
    """How each ASGI service with a database fared while that was slow, frozen, and back."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(WITH_DATABASE, pool.map(lambda name: observed(subjects[name]), WITH_DATABASE), strict=True))


class Loop(NamedTuple):
    locked: tuple[float, float]  # when the table was locked, from and to
    frozen: tuple[float, float]  # when Postgres was
    page: Load
    rows: Load
    ready: Load


def observed(subject: Subject) -> Loop:
    """One worker, and so one loop, with more requests for rows than it has sessions."""
    database = f"{subject.name}-db"
    with subject.serving(WEB_CONCURRENCY="1", DATABASE_STATEMENT_TIMEOUT="5") as container:
        site = f"http://127.0.0.1:{container.host_port}"
        page, ready = Load(f"{site}/", threads=1, pause=0.01), Load(f"{site}/health/ready", threads=1, pause=0.1)
        rows = Load(f"{site}/api/entries", threads=20, pause=0.05)
        with page, ready, rows:
            wait_until("rows", lambda: rows.count(200) > 20)
            begun = time.monotonic()
            lock = f"BEGIN; LOCK TABLE entries; SELECT pg_sleep({LOCKED}); COMMIT"
            docker("exec", database, "psql", "-qU", "contract", "-c", lock)
            locked = begun, time.monotonic()
            wait_until("rows again", lambda: rows.answers[-1][1] == 200)
            begun = time.monotonic()
            docker("pause", database)
            try:
                wait_until("refusals at once", lambda: all(is_refused_at_once(each) for each in rows.answers[-40:]))
            finally:
                docker("unpause", database)
            frozen = begun, time.monotonic()
            wait_until("rows again", lambda: rows.answers[-1][1] == ready.answers[-1][1] == 200)
    return Loop(locked, frozen, page, rows, ready)


def is_refused_at_once(answer: tuple[float, int, float]) -> bool:
    _, status, took = answer
    return status == 503 and took < 0.5


@pytest.mark.parametrize("name", WITH_DATABASE)
def test_an_event_loop_waits_neither_for_a_slow_statement_nor_for_a_frozen_postgres(name, loops, record_property):
    loop = loops[name]
    assert {status for _, status, _ in loop.page.answers} == {200}
    slowest = [
        max(took for when, _, took in loop.page.answers if begun < when < ended)
        for begun, ended in (loop.locked, loop.frozen)
    ]
    record_property("figure", "a page took at most {:.3f} s beside a lock, {:.3f} beside a freeze".format(*slowest))
    assert max(slowest) < MAX_LAG
    assert max(took for when, _, took in loop.rows.answers if when < loop.locked[1]) > LOCKED / 2  # it was slow


@pytest.mark.parametrize("name", WITH_DATABASE)
def test_while_postgres_is_frozen_an_asgi_service_is_not_ready_and_answers_503(name, loops, record_property):
    loop, (begun, ended) = loops[name], loops[name].frozen
    flip = next(when + took for when, status, took in loop.ready.answers if when > begun and status == 503) - begun
    record_property("figure", f"{flip:.1f} s to flip")
    assert flip < 3.5
    assert {status for when, status, _ in loop.rows.answers if begun < when < ended - 1} <= {200, 503}
    assert 0 not in {status for _, status, _ in loop.rows.answers}
