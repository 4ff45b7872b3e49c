"""`/api/openapi.json` of a Flask app, and `/api/docs`: the same as a page, with an example and a curl line each."""

import json
import re
import shlex
from collections.abc import Iterable
from typing import Any

from flask import Blueprint, Flask, current_app, jsonify, render_template, request
from werkzeug.exceptions import NotFound
from werkzeug.routing import IntegerConverter
from werkzeug.wrappers import Response

from chassis.web import openapi

# The values in an example where a schema has none of its own.
SAMPLES = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "null": None}
BOUNDS = {
    "minimum": "from {}",
    "maximum": "to {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "format": "{}",
    "default": "{!r} if left out",
}

blueprint = Blueprint("api_docs", __name__)
openapi_blueprint = Blueprint("openapi", __name__)


class ID(IntegerConverter):
    """`<id:name>` in a route: a positive bigint; any other text is a 404, never a database error."""

    regex = openapi.IDENTIFIER

    def to_python(self, value: str) -> int:
        # Not by `max`, which makes Werkzeug answer 405 where the route has several methods.
        try:
            return openapi.identifier(value)
        except ValueError:
            raise NotFound from None


def init_app(app: Flask) -> None:
    app.url_map.converters["id"] = ID
    app.register_blueprint(openapi_blueprint)
    app.jinja_env.filters["kind"] = kind
    app.register_blueprint(blueprint)


@openapi_blueprint.get(openapi.PATH)
def serve() -> Response:
    return jsonify(document())


def document() -> dict[str, Any]:
    return openapi.document(_routes(current_app), request.script_root)


def _routes(app: Flask) -> Iterable[openapi.Route]:
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if hasattr(view, "operation"):
            method = next(iter((rule.methods or set()) - {"HEAD", "OPTIONS"}))
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            named = re.findall(r"<(?:(\w+):)?(\w+)>", rule.rule)
            schemas = {name: openapi.PATH_SCHEMAS.get(converter, {"type": "string"}) for converter, name in named}
            yield openapi.Route(method, path, schemas, view)


@blueprint.get("/api/docs")
def page() -> str:
    whole = document()
    schemas = whole["components"]["schemas"]
    return render_template("chassis/api.html", operations=list(operations(whole)), schemas=schemas)


def operations(document: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Each operation with its `method`, `path`, example `body`, `curl` line and successful `answer`."""
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            body = shown(described.get("requestBody"), schemas)
            answers = {code: shown(each, schemas) for code, each in described["responses"].items() if code < "300"}
            yield {
                **described,
                "method": method.upper(),
                "path": path,
                "body": body,
                "curl": curl(method.upper(), path, body),
                "answer": next(iter(answers.values())),
            }


def shown(described: dict[str, Any] | None, schemas: dict[str, Any]) -> str | None:
    """The example of a body or an answer, as JSON text; None where there is no content."""
    content = (described or {}).get("content", {})
    media = next(iter(content.values()), None)
    return json.dumps(example(media["schema"], schemas), indent=2, ensure_ascii=False) if media else None


def example(schema: dict[str, Any], schemas: dict[str, Any]) -> Any:
    """A value that the schema allows, as far as types go."""
    if "$ref" in schema:
        return example(schemas[name(schema)], schemas)
    if "examples" in schema:
        return schema["examples"][0]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return example(options[0], schemas)
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {key: example(each, schemas) for key, each in schema.get("properties", {}).items()}
    if schema.get("type") == "array":
        return [example(schema["items"], schemas)] if "items" in schema else []
    return SAMPLES.get(schema.get("type", ""))


def kind(schema: dict[str, Any]) -> str:
    """The schema in words: `list of Note`, `integer, from 1, to 100`."""
    if "$ref" in schema:
        return name(schema)
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(kind, options))
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    of = f"list of {kind(schema['items'])}" if "items" in schema else schema.get("type", "anything")
    return ", ".join([of, *(words.format(schema[bound]) for bound, words in BOUNDS.items() if bound in schema)])


def name(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def curl(method: str, path: str, body: str | None) -> str:
    """A line for a shell, with 1 for each parameter in the path."""
    place = request.url_root.rstrip("/") + re.sub(r"{\w+}", "1", path)
    parts = ["curl", *([] if method == "GET" else ["-X", method]), shlex.quote(place)]
    if body:
        compact = json.dumps(json.loads(body), ensure_ascii=False)
        parts += ["\\\n  -H 'Content-Type: application/json'", "\\\n  -d", shlex.quote(compact)]
    return " ".join(parts)
