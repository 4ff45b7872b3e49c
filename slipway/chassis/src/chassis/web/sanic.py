"""`setup(app, settings)`: what a Sanic app has besides its own routes, and `body` and `answer` for those."""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from sanic import HTTPResponse, Request, Sanic, json
from sanic.exceptions import SanicException

from chassis.settings import Settings
from chassis.web import openapi, problems, validation
from chassis.web.asgi import Chassis, Route
from chassis.web.cross_site import MAX_BODY
from chassis.web.problems import Refused

T = TypeVar("T", bound=msgspec.Struct)

log = logging.getLogger("sanic")


def setup(app: Sanic[Any, Any], settings: Settings) -> Chassis:
    """The app to serve. Call it before the service's own blueprints are added, which may use `<id:name>` in routes."""
    app.config.MOTD = False  # a table of versions at each start
    app.config.REQUEST_MAX_SIZE = MAX_BODY
    app.router.register_pattern("id", openapi.identifier, openapi.IDENTIFIER)
    app.on_request(_note_route)
    app.exception(Refused)(_refuse)
    app.exception(SanicException)(_fail)
    app.exception(Exception)(_break)
    if settings.uses_database:
        from chassis.db import waits  # and with it SQLAlchemy and psycopg2
        from chassis.web import postgres

        @app.exception(*postgres.ERRORS)
        async def unavailable(request: Request, error: Exception) -> HTTPResponse:
            if not postgres.is_unavailable(error):
                return await _break(request, error)
            log.warning("the database is unavailable: %s", waits.reason(error))
            return _problem(503, postgres.UNAVAILABLE, headers={"Retry-After": str(postgres.RETRY_AFTER)})

    chassis = Chassis(app, settings)

    @app.get(openapi.PATH)
    async def described(request: Request) -> HTTPResponse:
        return json(openapi.document(_routes(app), settings.url_prefix))

    return chassis


def body(request: Request, kind: type[T]) -> T:
    """The request's JSON object as a `kind`. Raises Refused (415, 400), and Invalid with every error."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return validation.check(kind, validation.decode(media_type, request.body))


def query(request: Request, kind: type[T]) -> T:
    """The query's parameters as a `kind`. Raises Invalid."""
    return validation.parameters(kind, request.args)


def answer(value: msgspec.Struct, status: int = 200) -> HTTPResponse:
    return HTTPResponse(msgspec.json.encode(value), status, content_type="application/json")


def _routes(app: Sanic[Any, Any]) -> Iterable[openapi.Route]:
    for route in app.router.routes:
        if hasattr(route.handler, "operation"):
            path = "/" + re.sub(r"<(\w+)(?::[^>]+)?>", r"{\1}", route.path)
            named = route.params.values()
            schemas = {each.name: openapi.PATH_SCHEMAS.get(each.label, {"type": "string"}) for each in named}
            for method in sorted(route.methods - {"HEAD", "OPTIONS"}):
                yield openapi.Route(method, path, schemas, route.handler)


def _note_route(request: Request) -> None:
    """For the metrics, where FastAPI notes it."""
    if request.route:
        request.scope["route"] = Route(f"/{request.route.path}")


async def _refuse(request: Request, error: Refused) -> HTTPResponse:
    return _problem(error.status, error.detail, error.errors)


async def _fail(request: Request, error: SanicException) -> HTTPResponse:
    return _problem(error.status_code, str(error), headers=error.headers)


async def _break(request: Request, error: Exception) -> HTTPResponse:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return _problem(500)


def _problem(
    status: int, detail: str | None = None, errors: Sequence[object] = (), headers: dict[str, str] | None = None
) -> HTTPResponse:
    return json(problems.problem(status, detail, errors=errors), status, headers, content_type=problems.MEDIA_TYPE)
