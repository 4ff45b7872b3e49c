"""docs/promises.md names tests that exist, so that no promise loses its proof unnoticed."""

import re

from slipway.proofs.contract.promises import OURS, PROMISES
from slipway.proofs.harness import ROOT

TEXT = (ROOT / "docs/promises.md").read_text()


def test_every_test_that_it_names_exists():
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", TEXT)
    assert len(named) > 30
    missing = [name for path, name in named if f"def {name}(" not in (ROOT / path).read_text()]
    assert missing == []


def test_every_promise_of_the_contract_is_listed_and_no_other():
    listed = {int(number) for number in re.findall(r"contract (\d+)", TEXT)}
    assert listed == {promise.number for promise in [*PROMISES, *OURS]}


def test_each_promise_stands_once():
    numbers = re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)
    assert len(numbers) == len(set(numbers))
