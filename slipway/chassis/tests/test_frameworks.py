"""What Sanic and FastAPI are told, so that both answer as a Flask app on the chassis does."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import msgspec
import pydantic
import pytest
import sanic
from fastapi import Depends, FastAPI
from sqlalchemy import text

from chassis.observe import gauges, metrics
from chassis.settings import Settings
from chassis.web import fastapi
from chassis.web import sanic as ours
from chassis.web.openapi import operation
from chassis.web.sessions import Session, in_session, session
from chassis_testing.asgi import Client

JSON = "application/json"
PROBLEM = "application/problem+json"
NOWHERE = "postgresql://x:x@127.0.0.1:1/x"


class Order(msgspec.Struct, forbid_unknown_fields=True):
    title: Annotated[str, msgspec.Meta(min_length=1)]
    count: Annotated[int, msgspec.Meta(ge=1)]


class OrderModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", title="Order")

    title: Annotated[str, pydantic.Field(min_length=1)]
    count: Annotated[int, pydantic.Field(ge=1)]


def with_sanic(settings):
    app = sanic.Sanic("sample", configure_logging=False)
    chassis = ours.setup(app, settings)

    @app.post("/api/orders")
    @operation("Add an order", body=Order, status=201, answer=Order, errors=(400, 415, 422))
    async def add(request):
        return ours.answer(ours.body(request, Order), 201)

    @app.get("/api/orders/<number:id>")
    @operation("Get an order", answer=Order, errors=(404,))
    async def get(request, number):
        return sanic.json({"number": number})

    @app.get("/broken")
    async def broken(request):
        raise ZeroDivisionError("a secret")

    @app.get("/asks")
    async def asks(request):
        return sanic.json(await in_session(lambda session: session.scalar(text("SELECT 1"))))

    return chassis


def with_fastapi(settings):
    app = FastAPI(openapi_url="/api/openapi.json", docs_url=None, redoc_url=None)
    chassis = fastapi.setup(app, settings)

    @app.post("/api/orders", status_code=201)
    def add(order: OrderModel) -> OrderModel:
        return order

    @app.get("/api/orders/{number}")
    def get(number: int):
        return {"number": number}

    @app.get("/broken", include_in_schema=False)
    def broken():
        raise ZeroDivisionError("a secret")

    @app.get("/asks", include_in_schema=False)
    def asks(session: Annotated[Session, Depends(session, scope="function")]):
        return session.scalar(text("SELECT 1"))

    return chassis


@pytest.fixture(params=[with_sanic, with_fastapi])
def serve(request, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Starts the app; returns its client."""
    monkeypatch.setattr("sanic.Sanic.test_mode", True)  # many apps of one name in one process
    clients = []

    def start(**changes) -> Client:
        clients.append(Client(request.param(replace(settings, **changes))))
        return clients[-1].__enter__()

    yield start
    for client in clients:
        client.__exit__()


def test_what_is_valid_is_taken_and_a_session_answers(serve):
    client = serve()
    order = {"title": "tea", "count": 2}
    answer = client.post("/api/orders", json=order)
    assert (answer.status_code, answer.json()) == (201, order)
    assert client.get("/asks").json() == 1


def test_all_that_is_wrong_is_named_by_its_place(serve):
    answer = serve().post("/api/orders", json={"title": "", "count": 0, "more": 1})
    assert (answer.status_code, answer.headers["Content-Type"]) == (422, PROBLEM)
    problem = answer.json()
    assert {each["pointer"] for each in problem["errors"]} == {"#/title", "#/count", "#/more"}
    assert all(each["detail"].endswith(".") for each in problem["errors"])
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert problem["detail"] == "3 values are not valid."


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/api/orders", "{", 400),
        ("GET", "/nowhere", None, 404),
        ("PUT", "/api/orders", None, 405),
        ("GET", "/broken", None, 500),
    ],
)
def test_every_failure_is_problem_details_without_what_is_secret(serve, caplog, method, path, content, status):
    answer = serve().request(method, path, content=content, headers={"Content-Type": JSON})
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, PROBLEM)
    assert answer.json()["status"] == status
    assert "secret" not in answer.text
    assert ("a secret" in caplog.text) == (status == 500)


def test_without_a_database_the_answer_is_503_and_says_when_to_try_again(serve):
    answer = serve(database_url=NOWHERE, database_connect_timeout=1).get("/asks")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert answer.headers["Content-Type"] == PROBLEM
    assert "The database does not answer." in answer.json()["detail"]


def test_the_document_names_each_route_and_its_errors(serve, monkeypatch):
    monkeypatch.setenv("SERVICE", "shop")
    client = serve(url_prefix="/shop")
    document = client.get("/shop/api/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "shop"
    assert document["servers"] == [{"url": "/shop"}]
    assert set(document["paths"]) == {"/api/orders", "/api/orders/{number}"}
    add = document["paths"]["/api/orders"]["post"]
    assert add["responses"].keys() >= {"201", "403", "422", "503"}
    assert add["responses"]["422"]["content"] == {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert "Problem" in document["components"]["schemas"]
    (number,) = document["paths"]["/api/orders/{number}"]["get"]["parameters"]
    assert (number["in"], number["schema"]["type"]) == ("path", "integer")


def test_below_a_prefix_a_route_may_begin_with_it_and_a_path_keeps_its_escapes(serve):
    client = serve(url_prefix="/api")
    assert client.get("/api/api/orders/7").json() == {"number": 7}
    assert client.get("/api/nowhere%3Fa").status_code == client.get("/api/orders/7").status_code == 404


def test_in_sanic_a_query_is_checked_and_an_id_is_a_bigint(settings, monkeypatch):
    class Page(msgspec.Struct):
        page: Annotated[int, msgspec.Meta(ge=1)] = 1

    monkeypatch.setattr("sanic.Sanic.test_mode", True)
    app = sanic.Sanic("sample", configure_logging=False)
    chassis = ours.setup(app, settings)

    @app.get("/pages")
    async def pages(request):
        return sanic.json(ours.query(request, Page).page)

    @app.get("/pages/<number:id>")
    async def page(request, number):
        return sanic.json(number)

    with Client(chassis) as client:
        assert client.get("/pages?page=2&other=x").json() == 2
        refused = client.get("/pages?page=0")
        assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (422, "page")
        assert client.get("/pages?page=1&page=2").status_code == 422
        assert client.get(f"/pages/{2**63 - 1}").json() == 2**63 - 1
        for number in ("0", "-1", "x", 2**63, "9" * 30):
            assert client.get(f"/pages/{number}").status_code == 404, number


def test_what_another_site_sends_is_refused(serve):
    answer = serve().post("/api/orders", json={}, headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")


def test_requests_are_counted_by_their_route_and_never_by_their_path(serve):
    client = serve()
    for path in ("/api/orders/1", "/api/orders/2", "/nowhere/1", "/health/live"):
        client.get(path)
    series = set(re.findall(r'http_requests_total\{method="GET",route="([^"]+)"', metrics.text().decode()))
    assert {"none", "/health/live"} < series
    assert series & {"/api/orders/<number:id>", "/api/orders/{number}"}
    assert not series & {"/api/orders/1", "/nowhere/1"}
    assert gauges.sources["http_requests_in_flight"]() == 0
