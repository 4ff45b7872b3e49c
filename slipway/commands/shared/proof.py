"""What a run of `make prove` has shown: each test's outcome, each promise's state, and the page that shows them."""

import json
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from slipway.commands import ROOT

PROMISES = ROOT / "docs/promises.md"
CONTRACT = "slipway/proofs/contract/test_contract.py"
# What stands in a row's last column: tests by their ids, promises of the contract, and proofs that are not tests.
PROOF = re.compile(r"`([\w/]+\.py::test_\w+)`|contract (\d+)|`make lint`")
STATES = {"broken": "not kept", "open": "not proven", "kept": "kept", "lint": "by make lint", "out": "not in this run"}
SLOWEST = 20  # number of tests listed


@dataclass
class Test:
    id: str
    alone: bool = False
    outcome: str = ""  # passed, failed or skipped; empty if it has not finished
    seconds: float = 0
    reason: str = ""
    figures: list[str] = field(default_factory=list)

    @property
    def file(self) -> str:
        return self.id.partition("::")[0]

    @property
    def plain(self) -> str:
        """Its name, in words."""
        name, bracket, case = self.id.rpartition("/")[2].partition("::")[2].partition("[")
        return name.removeprefix("test_").replace("_", " ") + (f" ({case.removesuffix(']')})" if bracket else "")

    @property
    def command(self) -> str:
        """The command that runs it alone, as it is typed; make reads $$ as a dollar sign."""
        return f"make prove p={shlex.quote(self.id.replace('$', '$$'))}"

    @property
    def state(self) -> str:
        return {"passed": "kept", "failed": "broken"}.get(self.outcome, "open")


@dataclass
class Promise:
    number: int
    section: str
    text: str
    tests: list[Test]
    state: str
    reason: str

    @property
    def seconds(self) -> float:
        return sum(test.seconds for test in self.tests)

    @property
    def figures(self) -> list[str]:
        return list(dict.fromkeys(figure for test in self.tests for figure in test.figures))


class Run:
    """A run, as far as its record shows. `scope` is what was asked for, if that was not everything."""

    def __init__(self, record: Path, scope: str, machine: dict[str, str]) -> None:
        self.record, self.scope, self.machine = record, scope, machine
        self.ended = False  # by itself
        # Read now: another branch may be checked out during the run.
        self.text, self.template = PROMISES.read_text(), template()
        self.began, self.clock = datetime.now().astimezone(), time.monotonic()
        self.read()

    def read(self) -> None:
        """Reads what has been recorded since."""
        self.seconds = time.monotonic() - self.clock
        self.tests = list(tests(self.record))
        self.promises = list(promises(self.text, self.tests))
        self.judged = self.in_state("kept", "broken", "open")
        self.failed = [test for test in self.tests if test.outcome == "failed"]
        slow = [test for test in self.tests if test.seconds > 0.1]
        self.slowest = sorted(slow, key=lambda test: -test.seconds)[:SLOWEST]
        named = {test.id for promise in self.promises for test in promise.tests}
        self.unnamed = [test for test in self.tests if test.id not in named]

    def promise_of(self, test: Test) -> Promise | None:
        return next((promise for promise in self.promises if test in promise.tests), None)

    def in_state(self, *states: str) -> list[Promise]:
        return [promise for promise in self.promises if promise.state in states]

    @property
    def headline(self) -> str:
        if self.judged:
            return f"{len(self.in_state('kept'))} of {len(self.judged)} promises kept"
        return f"{sum(test.outcome == 'passed' for test in self.tests)} of {len(self.tests)} tests passed"

    @property
    def counts(self) -> str:
        count = Counter(test.outcome for test in self.tests)
        reasons = ", ".join(sorted({test.reason for test in self.tests if test.outcome == "skipped"}))
        told = [f"Tests: {count['passed']} passed", f"{count['failed']} failed"]
        told += [f"{count['skipped']} not proven ({reasons})"] if count["skipped"] else ["0 not proven"]
        told += [f"{count['']} not reached"] if count[""] else []
        return ", ".join(told)

    @property
    def duration(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"

    def page(self) -> str:
        return self.template.render(run=self, states=STATES)


def template() -> jinja2.Template:
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    templates = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    templates.filters["prose"] = prose
    return templates.get_template("prove.html")


def prose(text: str) -> Markup:
    """Renders Markdown's `code`, and nothing else of it."""
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def tests(record: Path) -> Iterable[Test]:
    """What a record of slipway/proofs/record.py says about each test, in the order of collection."""
    found: dict[str, Test] = {}
    for line in record.read_text().splitlines() if record.exists() else ():
        with suppress(ValueError):  # half a line, from a run that was killed or still goes on
            event = json.loads(line)
            test = found.setdefault(event["test"], Test(event["test"]))
            test.alone |= event.get("alone", False)
            test.seconds += event.get("seconds", 0)
            test.figures = event.get("figures") or test.figures
            outcome = event.get("outcome")
            if test.outcome in ("failed", "skipped"):  # and passes what is left of it
                test.outcome = "failed" if outcome == "failed" else test.outcome
            elif outcome in ("failed", "skipped"):
                test.outcome, test.reason = outcome, event["reason"]
            elif event.get("when") == "teardown":
                test.outcome = "passed"
    return found.values()


def named() -> list[str]:
    """The tests that docs/promises.md names, by id."""
    return list(dict.fromkeys(id for id, _ in PROOF.findall(PROMISES.read_text()) if id))


def promises(text: str, tests: Iterable[Test]) -> Iterator[Promise]:
    """Each promise of the text, docs/promises.md, and what these tests say about it."""
    proving: dict[str, list[Test]] = {}
    for test in tests:
        name, _, case = test.id.partition("[")
        proving.setdefault(name, []).append(test)
        if test.file == CONTRACT:
            proving.setdefault(case.removesuffix("]").rpartition("-")[2], []).append(test)
    section = ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif row := re.match(r"\| (\d+) \| (.+?) \| (.+?) \|", line):
            proofs = [proving.get(id or number, []) for id, number in PROOF.findall(row[3]) if id or number]
            distinct = {test.id: test for proof in proofs for test in proof}
            yield Promise(int(row[1]), section, row[2], list(distinct.values()), *judged(proofs))


def judged(proofs: list[list[Test]]) -> tuple[str, str]:
    """A promise's state and the reason for it; `proofs` are those that docs/promises.md names, each with its tests."""
    if not proofs:
        return "lint", ""
    tests = [test for proof in proofs for test in proof]
    if not tests:
        return "out", ""
    for outcome, state in (("failed", "broken"), ("skipped", "open")):
        for test in tests:
            if test.outcome == outcome:
                return state, test.reason
    if not all(test.outcome for test in tests):
        return "open", "not reached"
    if not all(proofs):
        return "open", f"{proofs.count([])} of its {len(proofs)} proofs not part of this run"
    return "kept", ""
