"""Runs pytest and records the outcome of each test: `record.py FILE MISSING …pytest's own arguments`.

FILE gets a line of JSON for each report at once, so that an interrupted run is recorded, too; with --collect-only,
a line for each test that would run. MISSING is the result of needs.missing(). `make prove` reads FILE.
"""

import json
import sys
from pathlib import Path

import pytest

from slipway.proofs import needs

EXIT_TIMEOUT = 120  # seconds for an interrupted process to remove the containers of its tests


class Record:
    """A plugin of the process that starts the others, if there are several: it sees all of their reports."""

    def __init__(self, file: Path, missing: dict[str, str]) -> None:
        self.file, self.missing = file, missing

    def write(self, **event: object) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps(event) + "\n")

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        from xdist.workermanage import NodeManager  # once pytest has rewritten its assertions

        config.stash[needs.MISSING] = self.missing
        NodeManager.EXIT_TIMEOUT = EXIT_TIMEOUT

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.config.option.collectonly:
            for item in session.items:
                self.write(test=item.nodeid, alone=bool(item.get_closest_marker("alone")))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.write(test=report.nodeid, when="collect", outcome="failed", seconds=0, reason=reason(report))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.write(
            test=report.nodeid,
            when=report.when,
            outcome=report.outcome,
            seconds=report.duration,
            reason=None if report.passed else reason(report),
            figures=[value for name, value in report.user_properties if name == "figure"],
        )


def reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    """The first line of it."""
    why = report.longrepr
    if isinstance(why, tuple):  # where a test was skipped: file, line, reason
        return why[2].removeprefix("Skipped: ")
    message = crash.message if (crash := getattr(why, "reprcrash", None)) else str(why)
    lines = message.strip().splitlines() or ["no reason is given"]
    return next((line[1:].strip() for line in lines if line.startswith("E  ")), lines[0])


if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[3:], [Record(Path(sys.argv[1]), json.loads(sys.argv[2]))]))
