"""Errors for programs, as problem details (RFC 9457), whatever the framework."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from chassis.observe import request_id

MEDIA_TYPE = "application/problem+json"


class Error(msgspec.Struct, omit_defaults=True):
    """One thing that is wrong: in the body (`pointer`, RFC 6901) or in the query (`parameter`)."""

    detail: str
    pointer: str = ""
    parameter: str = ""


class Problem(msgspec.Struct, omit_defaults=True):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[Error] = []


class Refused(Exception):
    """What a client sent is not taken: the status, and why in a full sentence; `errors` as in Problem."""

    status = 400

    def __init__(self, detail: str, status: int = 0) -> None:
        super().__init__(detail)
        self.detail, self.status = detail, status or self.status
        self.errors: list[dict[str, str]] = []


def problem(status: int, detail: str | None, title: str = "", errors: Sequence[object] = ()) -> dict[str, Any]:
    """RFC 9457's members, the request id, and `errors` if there are some."""
    title = title or HTTPStatus(status).phrase
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail or f"{title}.",
        "request_id": request_id.current(),
    }
    return body | ({"errors": errors} if errors else {})
