"""Exceptions, sent by sentry-sdk: imported only where SENTRY_DSN is set, through telemetry.py.

What is logged as an error with an exception is sent, as every framework, worker and script logs theirs: by its type,
message and lines, with the release and the ids of the request and the trace. Nothing of the request is, nor any
variable's value.
"""

import logging
from typing import TYPE_CHECKING

import sentry_sdk
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration

from chassis.observe import logs, telemetry, version
from chassis.settings import Settings

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

LAST_MOMENT = 1.0  # seconds that a process which ends gives the receiver
SENT = {"contexts", "environment", "event_id", "exception", "level", "logger", "platform", "release", "sdk",
        "server_name", "timestamp"}  # fmt: skip


def start(settings: Settings) -> None:
    """In the process that serves or works, after the fork."""
    release = version.current()
    sentry_sdk.init(
        dsn=settings.sentry_dsn,
        release=f"{release['name']}@{release['revision']}",
        environment=settings.app_env,
        server_name=logs.HOST,
        send_default_pii=False,
        max_request_body_size="never",
        include_local_variables=False,
        max_breadcrumbs=0,
        auto_session_tracking=False,
        default_integrations=False,  # Flask's and others' would send the request
        auto_enabling_integrations=False,
        integrations=[
            LoggingIntegration(level=None, event_level=logging.ERROR),
            ThreadingIntegration(propagate_scope=False),
            DedupeIntegration(),
        ],
        before_send=shown,
        shutdown_timeout=LAST_MOMENT,
    )


def shown(event: "Event", hint: "Hint") -> "Event | None":
    """What is sent of an exception; None, which sends nothing, for a line without one."""
    raised = hint.get("exc_info")
    if not raised or "exception" not in event:
        return None
    kept: Event = {key: value for key, value in event.items() if key in SENT}  # type: ignore[assignment] # some of its keys
    error: BaseException | None = raised[1]
    for described in reversed(event["exception"]["values"]):  # the last is the one that was raised, then its causes
        if error is not None:
            described["value"] = telemetry.message(error)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        else:
            described["value"] = ""
    ids = {"request_id": logs.request_id.get(), "trace_id": logs.trace_id.get()}
    kept["tags"] = {name: value for name, value in ids.items() if value}
    return kept


def stop() -> None:
    sentry_sdk.get_client().close(timeout=LAST_MOMENT)
