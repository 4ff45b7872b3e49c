"""`/api/openapi.json` (OpenAPI 3.1), built from the decorator of each view.

@blueprint.post("/api/orders")
@operation("Add an order", body=OrderFields, answer=Order, status=201, errors=(400, 415, 422))
def add() -> Response: ...
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from flask import Blueprint, Flask, current_app, jsonify, request
from werkzeug.exceptions import NotFound
from werkzeug.routing import IntegerConverter, Rule
from werkzeug.wrappers import Response

from chassis.observe import version
from chassis.web.cross_site import SAFE_METHODS

View = TypeVar("View", bound=Callable[..., Any])

REFERENCE = "#/components/schemas/{name}"
MAX_ID = 2**63 - 1  # of Postgres's bigint
# The schemas of path parameters, by the converter's name in the route.
PATH_SCHEMAS = {"id": {"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_ID}}

blueprint = Blueprint("openapi", __name__)


class ID(IntegerConverter):
    """`<id:name>` in a route: a positive bigint; any other text is a 404, never a database error."""

    regex = r"[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        # Not by `max`, which makes Werkzeug answer 405 where the route has several methods.
        if (number := int(value)) > MAX_ID:
            raise NotFound
        return number


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


@dataclass(frozen=True)
class Operation:
    summary: str
    status: int
    answer: type[msgspec.Struct] | None
    body: type[msgspec.Struct] | None
    query: type[msgspec.Struct] | None
    headers: dict[str, str]
    errors: tuple[int, ...]


def operation(
    summary: str,
    *,
    status: int = 200,
    answer: type[msgspec.Struct] | None = None,
    body: type[msgspec.Struct] | None = None,
    query: type[msgspec.Struct] | None = None,
    headers: dict[str, str] | None = None,
    errors: tuple[int, ...] = (),
) -> Callable[[View], View]:
    """Describes a view; `headers` are its answer's, each with its meaning. 414, 503 and, for a write, 403 are added."""
    described = Operation(summary, status, answer, body, query, headers or {}, (*errors, 414, 503))

    def describe(view: View) -> View:
        view.operation = described  # type: ignore[attr-defined] # any function can have one
        return view

    return describe


def init_app(app: Flask) -> None:
    app.url_map.converters["id"] = ID
    app.register_blueprint(blueprint)


@blueprint.get("/api/openapi.json")
def serve() -> Response:
    return jsonify(document(current_app))


def document(app: Flask) -> dict[str, Any]:
    """The whole document: every view of the app that has an `operation`."""
    release = version.current()
    paths: dict[str, dict[str, Any]] = {}
    kinds: set[type[msgspec.Struct]] = {Problem}
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        described: Operation | None = getattr(view, "operation", None)
        if described:
            method = next(iter(_methods(rule) - {"HEAD", "OPTIONS"})).lower()
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            paths.setdefault(path, {})[method] = _operation(view, described, rule)
            kinds |= {each for each in (described.answer, described.body) if each}
    return {
        "openapi": "3.1.0",
        "info": {"title": release["name"], "version": release["version"]},
        "servers": [{"url": request.script_root or "/"}],
        "paths": paths,
        "components": {"schemas": _schemas(kinds)},
    }


def _methods(rule: Rule) -> set[str]:
    return rule.methods or set()


def _operation(view: Callable[..., Any], described: Operation, rule: Rule) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(described.status).phrase}
    if described.headers:
        answer["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in described.headers.items()
        }
    if described.answer:
        answer["content"] = _content("application/json", described.answer)
    responses = {str(described.status): answer}
    cross_site = (403,) if _methods(rule) - SAFE_METHODS else ()
    for code in (*described.errors, *cross_site):
        responses[str(code)] = {"description": HTTPStatus(code).phrase}
        if code != HTTPStatus.REQUEST_URI_TOO_LONG:  # answered by the server, before the app gets the request
            responses[str(code)]["content"] = _content("application/problem+json", Problem)
    built: dict[str, Any] = {"operationId": view.__name__, "summary": described.summary, "responses": responses}
    if parameters := [*_path_parameters(rule), *_query_parameters(described.query)]:
        built["parameters"] = parameters
    if described.body:
        content = _content("application/json", described.body)
        built["requestBody"] = {"required": True, "content": content}
    return built


def _path_parameters(rule: Rule) -> Iterable[dict[str, Any]]:
    for converter, name in re.findall(r"<(?:(\w+):)?(\w+)>", rule.rule):
        schema = PATH_SCHEMAS.get(converter, {"type": "string"})
        yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(kind: type[msgspec.Struct] | None) -> Iterable[dict[str, Any]]:
    if kind:
        properties = _schemas([kind])[kind.__name__]["properties"]
        for name, schema in properties.items():
            yield {"name": name, "in": "query", "schema": schema}


def _content(media: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {media: {"schema": {"$ref": REFERENCE.format(name=kind.__name__)}}}


def _schemas(kinds: Iterable[type[msgspec.Struct]]) -> dict[str, Any]:
    ordered = sorted(kinds, key=lambda kind: kind.__name__)  # the same text from every worker
    return msgspec.json.schema_components(ordered, ref_template=REFERENCE)[1]
