"""The page that `make prove` leaves: readable by all, without a server and without JavaScript."""

import json

import pytest

from slipway.commands.shared import proof

LOOKS = {
    "light and wide": {},
    "dark and wide": {"dark": True},
    "light and narrow": {"narrow": True},
    "dark and narrow": {"dark": True, "narrow": True},
}
PROMISES = """
## Image

| 1 | It runs as a numeric user that is not root | `slipway/proofs/stack/test_a.py::test_one` |
| 2 | Its base is not `latest`, whatever <b>others</b> say | `slipway/proofs/stack/test_a.py::test_two`, contract 2 |
| 3 | It works read-only, with no capability, under limits | `slipway/proofs/stack/test_a.py::test_three` |
| 4 | hadolint finds nothing | `make lint` |

## Deploy

| 5 | A redeploy under load, with slow requests in flight, fails none | `slipway/proofs/stack/test_b.py::test_five` |
| 6 | A rollback restores the former image | `slipway/proofs/stack/test_away.py::test_six` |
"""
EVENTS = [
    ("slipway/proofs/stack/test_a.py::test_one", "passed", None, []),
    (
        "slipway/proofs/stack/test_a.py::test_two",
        "failed",
        "AssertionError: assert '<latest>' not in 'python:latest'",
        [],
    ),
    ("slipway/proofs/contract/test_contract.py::test_our_image_keeps[web-2]", "passed", None, ["python:3.14"]),
    ("slipway/proofs/stack/test_a.py::test_three", "skipped", "no engine", []),
    ("slipway/proofs/stack/test_b.py::test_five", "passed", None, ["3209 requests, 0 failed, p99 0.30 s"]),
    ("slipway/proofs/stack/test_b.py::test_that_proves_no_promise[it's $HOME]", "passed", None, []),
    ("slipway/proofs/stack/test_b.py::test_that_fails_and_proves_no_promise", "failed", "TimeoutError: after 30 s", []),
]


@pytest.fixture
def address(tmp_path, monkeypatch):
    """The page of a run in which promises were kept, not kept, and not proven."""
    monkeypatch.setattr(proof, "PROMISES", tmp_path / "promises.md")
    proof.PROMISES.write_text(PROMISES)
    lines = [
        {"test": id, "when": "teardown", "outcome": outcome, "seconds": 12.3, "reason": reason, "figures": figures}
        for id, outcome, reason, figures in EVENTS
    ]
    (tmp_path / "record").write_text("\n".join(map(json.dumps, lines)))
    machine = {"commit": "v1.2-3-gabcdef0", "system": "Debian GNU/Linux 12, x86_64, 2 cores, 8 GB of memory"}
    run = proof.Run(tmp_path / "record", "p=stack", machine | {"engine": "none: start Docker"})
    (tmp_path / "prove.html").write_text(run.page())
    return (tmp_path / "prove.html").as_uri()


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_anybody_can_read_what_was_proved(address, visit, barriers, look):
    page = visit(address, **look)
    assert page.get_by_role("heading", level=1).inner_text() == "2 of 4 promises kept"
    for state in ("folded", "unfolded"):
        assert barriers(page) == [], state
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"it scrolls sideways, {state}"
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
