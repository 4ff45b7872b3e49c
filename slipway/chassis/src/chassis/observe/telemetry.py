"""What leaves the process for others to keep: traces, where OTEL_EXPORTER_OTLP_ENDPOINT is set, and exceptions, where
SENTRY_DSN is. Else nothing of it is imported.
"""

import importlib.util
from typing import TYPE_CHECKING, Any

from chassis.settings import Settings

if TYPE_CHECKING:
    from types import ModuleType

# By what turns it on: what it takes, and the extra of the chassis that has it.
NEEDS = {"otel_exporter_otlp_endpoint": ("opentelemetry", "traces"), "sentry_dsn": ("sentry_sdk", "sentry")}

_traces: "ModuleType | None" = None
_errors: "ModuleType | None" = None


def lacks(settings: Settings) -> str | None:
    """What is missing for what the settings ask for, and what to do about it."""
    for name, (module, extra) in NEEDS.items():
        if getattr(settings, name) and importlib.util.find_spec(module) is None:
            return (
                f"{name.upper()} is set, but this image has no {module}: build it with EXTRAS={extra}, or leave "
                f"{name.upper()} empty."
            )
    return None


def start(settings: Settings) -> None:
    """In the process that serves or works: what it starts would not survive a fork."""
    global _traces, _errors
    if settings.traced:
        from chassis.observe import traces

        traces.start(settings)
        _traces = traces
    if settings.sentry_dsn:
        from chassis.observe import errors

        errors.start(settings)
        _errors = errors


def stop() -> None:
    """Sends what is left, for a second each at most."""
    for each in (_traces, _errors):
        if each:
            each.stop()


def begin(work: str) -> None:
    """Begins the span of a round of work or a script's run, and ends the former one."""
    if _traces:
        _traces.begin_work(work)


def end() -> None:
    if _traces:
        _traces.end_work()


def message(error: BaseException) -> str:
    """Of an error of Postgres only what can't be a user's data: its code, the table and the constraint."""
    cause: Any = getattr(error, "orig", None) or error
    if code := getattr(cause, "pgcode", None):
        return " ".join(filter(None, (code, cause.diag.table_name, cause.diag.constraint_name)))
    return str(cause).partition("\n")[0] if cause is not error else str(cause)


def headers() -> dict[str, str]:
    """What an HTTP call sends so that the trace goes on where it arrives; urllib and requests send it by themselves."""
    return _traces.headers() if _traces else {}
