"""`/api/openapi.json` describes the API as it is."""


def test_every_route_under_api_is_described(app, client):
    document = client.get("/api/openapi.json").json
    served = {
        (rule.rule.replace("<id:", "{").replace(">", "}"), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/") and rule.rule not in ("/api/openapi.json", "/api/docs")
    }
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert described == served
