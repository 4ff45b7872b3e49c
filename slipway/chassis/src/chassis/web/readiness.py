"""Whether an app of any framework is ready: checks, run by py-healthcheck, and what it answers to whom."""

import json
import logging
from collections.abc import Mapping

from healthcheck import HealthCheck

from chassis.db.absence import Absence
from chassis.server import drain
from chassis.settings import Settings
from chassis.web.checks import Bounded, Check
from chassis.web.traffic import Traffic

HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store"}


class Readiness:
    """The checks, of which the first is always `draining`: it asks nothing, and those behind a database that says
    nothing get no time.
    """

    def __init__(self, log: logging.Logger) -> None:
        self.log, self.status = log, 200
        self.checks = HealthCheck(
            success_headers=HEADERS,
            failed_status=503,
            failed_headers=HEADERS,
            success_ttl=0,
            failed_ttl=0,
        )
        self.add({"draining": _not_draining})

    def add(self, checks: Mapping[str, Check]) -> None:
        """Further conditions: each returns (passed, a word for the operator)."""
        for name, check in checks.items():
            self.checks.add_check(Bounded(check, name))

    def watch(self, settings: Settings, absence: Absence | None) -> None:
        """Begins to tell the proxy, too, see traffic.py."""
        self.traffic = Traffic(
            settings,
            absence,
            checks=lambda: self.checks.checkers,
            log=lambda failing: self.log_change(503 if failing else 200, json.dumps(failing)),
        )

    def answer(self, public: bool, for_traffic: bool) -> tuple[str, int]:
        """The body, as JSON, and the status: what fails, and where, for clients in the network; a word for the public.

        With `for_traffic`, which the public can't ask for, it is the answer to the proxy's question. It may wait as
        long as the checks may.
        """
        if for_traffic and not public:
            if not (wanted := self.traffic.wanted()):
                drain.tell()
            return _word(wanted), 200 if wanted else 503
        body, status, _ = self.checks.run()
        self.log_change(status, body)
        return _word(status == 200) if public else body, status

    def log_change(self, status: int, body: str) -> None:
        """Logs one line when readiness changes, instead of one per probe."""
        if self.status != status:
            level = self.log.info if status == 200 else self.log.warning
            level("ready" if status == 200 else "not ready", extra={"health": body})
        self.status = status


def _word(passed: bool) -> str:
    return json.dumps({"status": "success" if passed else "failure"})  # py-healthcheck's words


def _not_draining() -> tuple[bool, str]:
    return (False, "draining") if drain.started() else (True, "serving")
