"""`/api/openapi.json` describes the API as it is."""

import pytest


@pytest.fixture
def document(client):
    return client.get("/api/openapi.json").json


def test_the_description_is_openapi_3_1_and_names_the_service(document):
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == "web"


def test_every_route_under_api_is_described(app, document):
    served = {
        (rule.rule.replace("<id:", "{").replace(">", "}"), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/") and rule.rule not in ("/api/openapi.json", "/api/docs")
    }
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert described == served


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
