"""`setup(app, settings)`: what a FastAPI app has besides its own routes.

Its models are Pydantic's, and its OpenAPI document FastAPI's own, in which errors are problem details.
"""

import logging
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from chassis.observe import version
from chassis.settings import Settings
from chassis.web import openapi, problems, validation
from chassis.web.asgi import Chassis
from chassis.web.cross_site import SAFE_METHODS

log = logging.getLogger("fastapi")


def setup(app: FastAPI, settings: Settings) -> Chassis:
    """The app to serve."""
    app.openapi = lambda: _document(app)  # type: ignore[method-assign] # as FastAPI documents it
    app.add_exception_handler(HTTPException, _fail)
    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_exception_handler(Exception, _break)
    if settings.uses_database:
        from chassis.db import waits  # and with it SQLAlchemy and psycopg2
        from chassis.web import postgres

        async def unavailable(request: Request, error: Exception) -> Response:
            if not postgres.is_unavailable(error):
                raise error
            log.warning("the database is unavailable: %s", waits.reason(error))
            return _problem(503, postgres.UNAVAILABLE, headers={"Retry-After": str(postgres.RETRY_AFTER)})

        for each in postgres.ERRORS:
            app.add_exception_handler(each, unavailable)
    return Chassis(app, settings)


def _document(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the errors that are answered here in place of its own."""
    if not app.openapi_schema:
        release = version.current()
        document = get_openapi(title=release["name"], version=release["version"], routes=app.routes)
        for methods in document["paths"].values():
            for method, operation in methods.items():
                refused = [422] if operation["responses"].pop("422", None) else []
                cross_site = [] if method.upper() in SAFE_METHODS else [403]
                for code in (*refused, *cross_site, 503):
                    operation["responses"].setdefault(str(code), openapi.problem(code))
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schemas |= openapi.schemas([problems.Problem])
        app.openapi_schema = document
    return app.openapi_schema


async def _refuse(request: Request, error: Exception) -> Response:
    """422 with every error, or 400 for what is not JSON."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        return _problem(400, "The body is not JSON.")
    errors = [_described(*each["loc"], detail=f"{each['msg']}.") for each in islice(found, validation.MAX_ERRORS)]
    count = "One value is" if len(found) == 1 else f"{len(found)} values are"
    return _problem(422, f"{count} not valid.", errors)


def _described(where: str, *names: str | int, detail: str) -> dict[str, str]:
    detail = validation.cut(detail, validation.MAX_REASON)
    if where != "body":
        return {"parameter": validation.cut(".".join(map(str, names)), validation.MAX_NAME), "detail": detail}
    places = [validation.pointer(str(name), "")["pointer"].removeprefix("#") for name in names]
    return {"pointer": "#" + "".join(places), "detail": detail}


async def _fail(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(error.status_code, error.detail, headers=error.headers)


async def _break(request: Request, error: Exception) -> Response:
    """The error is raised again afterwards, and logged by Chassis."""
    return _problem(500)


def _problem(
    status: int, detail: str | None = None, errors: Sequence[object] = (), headers: Mapping[str, str] | None = None
) -> Response:
    return JSONResponse(
        problems.problem(status, detail, errors=errors), status, headers, media_type=problems.MEDIA_TYPE
    )
