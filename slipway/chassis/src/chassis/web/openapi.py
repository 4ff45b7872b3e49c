"""The OpenAPI 3.1 document of an app of any framework, built from the decorator of each view.

@blueprint.post("/api/orders")
@operation("Add an order", body=OrderFields, answer=Order, status=201, errors=(400, 415, 422))
def add() -> Response: ...
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import msgspec

from chassis.observe import version
from chassis.web import problems
from chassis.web.cross_site import SAFE_METHODS
from chassis.web.problems import Problem

View = TypeVar("View", bound=Callable[..., Any])

PATH = "/api/openapi.json"
REFERENCE = "#/components/schemas/{name}"
MAX_ID = 2**63 - 1  # of Postgres's bigint
IDENTIFIER = r"[1-9][0-9]{0,18}"
# The schemas of path parameters, by the name of the converter or pattern in the route.
PATH_SCHEMAS = {"id": {"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_ID}}


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


class Route(NamedTuple):
    """A view that has an `operation`; `parameters` has the schema of each part of the path that is one."""

    method: str  # such as POST
    path: str  # with its parameters as `{name}`
    parameters: Mapping[str, Mapping[str, object]]
    view: Callable[..., Any]


def document(routes: Iterable[Route], server: str) -> dict[str, Any]:
    """The whole document; `server` is the beginning of its addresses."""
    release = version.current()
    paths: dict[str, dict[str, Any]] = {}
    kinds: set[type[msgspec.Struct]] = {Problem}
    for route in routes:
        described: Operation = route.view.operation  # type: ignore[attr-defined]
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(described, route)
        kinds |= {each for each in (described.answer, described.body) if each}
    return {
        "openapi": "3.1.0",
        "info": {"title": release["name"], "version": release["version"]},
        "servers": [{"url": server or "/"}],
        "paths": paths,
        "components": {"schemas": schemas(kinds)},
    }


def identifier(text: str) -> int:
    """A positive bigint, as a path has it. Raises ValueError for any other text."""
    if not re.fullmatch(IDENTIFIER, text) or (number := int(text)) > MAX_ID:
        raise ValueError(text)
    return number


def problem(code: int) -> dict[str, Any]:
    """The description of an error; 414 is answered by the server, before the app gets the request."""
    described: dict[str, Any] = {"description": HTTPStatus(code).phrase}
    if code != HTTPStatus.REQUEST_URI_TOO_LONG:
        described["content"] = _content(problems.MEDIA_TYPE, Problem)
    return described


def _operation(described: Operation, route: Route) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(described.status).phrase}
    if described.headers:
        answer["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in described.headers.items()
        }
    if described.answer:
        answer["content"] = _content("application/json", described.answer)
    cross_site = () if route.method in SAFE_METHODS else (403,)
    responses = {str(described.status): answer}
    responses |= {str(code): problem(code) for code in (*described.errors, *cross_site)}
    built: dict[str, Any] = {"operationId": route.view.__name__, "summary": described.summary, "responses": responses}
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": schema} for name, schema in route.parameters.items()
    ]
    if parameters := [*in_path, *_query_parameters(described.query)]:
        built["parameters"] = parameters
    if described.body:
        content = _content("application/json", described.body)
        built["requestBody"] = {"required": True, "content": content}
    return built


def _query_parameters(kind: type[msgspec.Struct] | None) -> Iterable[dict[str, Any]]:
    if kind:
        properties = schemas([kind])[kind.__name__]["properties"]
        for name, schema in properties.items():
            yield {"name": name, "in": "query", "schema": schema}


def _content(media: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {media: {"schema": {"$ref": REFERENCE.format(name=kind.__name__)}}}


def schemas(kinds: Iterable[type[msgspec.Struct]]) -> dict[str, Any]:
    ordered = sorted(kinds, key=lambda kind: kind.__name__)  # the same text from every worker
    return msgspec.json.schema_components(ordered, ref_template=REFERENCE)[1]
