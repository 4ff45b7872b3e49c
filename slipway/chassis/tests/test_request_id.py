import pytest


@pytest.mark.parametrize("given", ["0123456789abcdef", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "trace.1_2-3"])
def test_a_well_formed_id_is_kept(client, given):
    assert client.get("/version", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "short", "a b c d e f g", "*/ DROP TABLE users --", "x" * 65, "äöüäöüäöü"])
def test_any_other_is_replaced(client, given):
    made = client.get("/version", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert made != given
    assert len(made) == 32


def test_errors_carry_an_id_as_well(client):
    answer = client.get("/nowhere")
    assert answer.status_code == 404
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]
    assert answer.content_type == "application/problem+json"
