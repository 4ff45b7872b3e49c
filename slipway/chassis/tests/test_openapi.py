"""`/api/openapi.json` describes the API as it is."""

from dataclasses import replace

import msgspec
import pytest
from flask import Flask

from chassis.web.openapi import operation
from chassis.web.setup import setup


class Order(msgspec.Struct):
    id: int
    title: str


@pytest.fixture
def document(app, client, monkeypatch):
    monkeypatch.setenv("SERVICE", "shop")

    @app.get("/api/orders/<id:number>")
    @operation("Get an order", answer=Order, errors=(404,))
    def get_order(number):
        """Not asked for."""

    @app.post("/api/orders")
    @operation("Add an order", body=Order, answer=Order, status=201, errors=(422,))
    def add_order():
        """Not asked for."""

    return client.get("/api/openapi.json").json


def test_the_description_is_openapi_3_1_and_names_the_service(document):
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "shop"


def test_below_a_prefix_the_description_and_its_page_name_addresses_with_it(settings):
    app = Flask("sample")
    setup(app, replace(settings, url_prefix="/shop"))
    app.add_url_rule("/api/orders", view_func=operation("List orders", answer=Order)(lambda: ""), endpoint="orders")
    client = app.test_client()
    assert client.get("/shop/api/openapi.json").json["servers"] == [{"url": "/shop"}]
    assert 'data-path="/shop/api/orders"' in client.get("/shop/api/docs").text
    app.extensions["database"].dispose()


def test_every_reference_leads_somewhere(document):
    def references(value):
        if isinstance(value, dict):
            yield from (value[key] for key in value if key == "$ref")
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    found = set(references(document))
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert found
    assert found <= known


def test_every_operation_has_a_name_of_its_own(document):
    names = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(names) == len(set(names))


def test_the_description_is_the_same_text_every_time(client):
    texts = {client.get("/api/openapi.json").text for _ in range(3)}
    assert len(texts) == 1
