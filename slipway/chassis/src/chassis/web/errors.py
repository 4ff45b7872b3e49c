"""Errors as the client wants them: a page for browsers, problem details (RFC 9457) for programs."""

from typing import Any

from flask import Flask, current_app, render_template, request
from jinja2 import TemplateNotFound
from werkzeug.exceptions import HTTPException, InternalServerError, default_exceptions
from werkzeug.wrappers import Response

from chassis.observe import request_id
from chassis.web import problems
from chassis.web.problems import Refused


def init_app(app: Flask) -> None:
    """A service's `templates/error.html` gets `code`, `name`, `description` and `request_id`."""
    app.config["PROPAGATE_EXCEPTIONS"] = False  # in debug mode too, the answer is made here
    app.register_error_handler(HTTPException, answer)
    app.register_error_handler(Refused, refuse)


def refuse(error: Refused) -> Response:
    refused = default_exceptions[error.status](error.detail)
    refused.errors = error.errors  # type: ignore[attr-defined] # which `problem` looks for
    return answer(refused)


def answer(error: HTTPException) -> Response:
    """The response for an error, with its own headers (Allow, Retry-After)."""
    response = error.get_response()
    if error.response is not None:  # abort() was given a whole response
        return response
    if wants_json():
        response.data = current_app.json.dumps(problem(error))
        response.content_type = problems.MEDIA_TYPE
    else:
        response.data = page(error)
    if (error.code or 0) >= 500:
        response.headers["Cache-Control"] = "no-store"
    return response


def wants_json() -> bool:
    """Whether the client is a program: by its path, else by its Accept header."""
    accept = request.accept_mimetypes
    return request.path.startswith("/api/") or not accept.accept_html


def problem(error: HTTPException) -> dict[str, Any]:
    return problems.problem(error.code or 500, error.description, error.name, getattr(error, "errors", ()))


def page(error: HTTPException) -> str:
    # An unexpected error's cause stays in the log; the id leads there.
    described = not isinstance(error, InternalServerError)
    try:
        return render_template(
            "error.html",
            code=error.code,
            name=error.name,
            description=error.description if described else None,
            request_id=request_id.current(),
        )
    except TemplateNotFound:
        return error.get_body()
