"""`make init` and a plain `docker compose up` are production."""

import json
import stat

import httpx
import pytest
from harness import Stack, copy_tree, unique

pytestmark = pytest.mark.containers


def test_without_make_init_compose_stops_with_one_line_that_says_to_run_it(checkout, tmp_path):
    stack = Stack(copy_tree(tmp_path), unique("bare"))
    run = stack.compose("up", "--detach", check=False)
    assert run.returncode != 0
    assert "make init" in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    assert stack.containers() == []


def test_init_writes_secrets_that_only_this_user_reaches_and_keeps_those_that_exist(tmp_path):
    stack = Stack(copy_tree(tmp_path), unique("init"))
    stack.make("init")
    secrets = tmp_path / "secrets"
    written = {path.name: path.read_text() for path in secrets.iterdir()}
    assert set(written) == {"secret_key", "postgres_password", "web_owner_password", "web_password"}
    assert len(set(written.values())) == 4
    assert min(map(len, written.values())) > 40
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700

    (tmp_path / ".env").write_text("SITE_ADDRESS=shop.example\n")
    (secrets / "web_password").unlink()
    out = stack.make("init").stdout
    assert "created  secrets/web_password" in out
    assert (tmp_path / ".env").read_text() == "SITE_ADDRESS=shop.example\n"
    assert (secrets / "secret_key").read_text() == written["secret_key"]
    assert sorted(path.name for path in secrets.iterdir()) == sorted(written)


def test_the_page_and_the_api_answer_over_tls_that_the_proxys_own_authority_signed(production):
    with production.client() as client:
        home = client.get("/")
        assert home.status_code == 200
        assert "text/html" in home.headers["content-type"]
        notes = client.get("/api/notes")
        assert notes.status_code == 200
        assert notes.headers["content-type"].startswith("application/json")


def test_plain_http_is_sent_to_https(production):
    port = production.environment["HTTP_PORT"]
    answer = httpx.get(f"http://localhost:{port}/notes?page=2", trust_env=False)
    assert answer.status_code == 308
    assert answer.headers["location"] == f"https://localhost:{production.environment['HTTPS_PORT']}/notes?page=2"


def test_both_replicas_serve(production):
    with production.client() as client:
        answers = {client.get("/version").status_code for _ in range(4)}
    assert answers == {200}
    states = {c["Name"]: c["State"]["Health"]["Status"] for c in production.containers() if "web-" in c["Name"]}
    assert len(states) == 2
    assert set(states.values()) == {"healthy"}


def test_the_one_shot_migration_ended_well_and_before_the_app_started(production):
    migrate, web = production.container("migrate")["State"], production.container("web-a")["State"]
    assert (migrate["Status"], migrate["ExitCode"]) == ("exited", 0)
    assert migrate["FinishedAt"] < web["StartedAt"]


def test_only_the_proxy_publishes_a_port(production):
    published = {
        c["Config"]["Labels"]["com.docker.compose.service"]
        for c in production.containers()
        if any(c["NetworkSettings"]["Ports"].values())
    }
    assert published == {"proxy"}


def test_metrics_are_not_public(production):
    with production.client() as client:
        assert client.get("/metrics").status_code == 404
    inside = production.compose(
        "exec", "-T", "web-a", "python", "-c",
        "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/metrics').read().decode())",
    )  # fmt: skip
    assert "http_requests_total" in inside.stdout


def test_one_request_id_goes_from_the_client_through_the_log_to_the_response(production):
    with production.client() as client:
        answer = client.get("/api/notes", headers={"X-Request-ID": "promise-number-22"})
        assert answer.headers["x-request-id"] == "promise-number-22"
        forged = client.get("/api/notes", headers={"X-Request-ID": "no spaces, please"})
        assert forged.headers["x-request-id"] != "no spaces, please"
    lines = production.compose("logs", "--no-log-prefix", "web-a", "web-b").stdout.splitlines()
    entries = [json.loads(line) for line in lines]
    assert any(e.get("request_id") == "promise-number-22" and e["path"] == "/api/notes" for e in entries)


def test_every_line_of_the_apps_log_is_one_json_object(production):
    for line in production.compose("logs", "--no-log-prefix", "web-a", "web-b", "migrate").stdout.splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys()


def test_notes_survive_down_and_up(production):
    with production.client() as client:
        made = client.post("/api/notes", json={"title": "Still here", "body": "after down and up"})
        assert made.status_code == 201
    production.compose("down")
    production.compose("up", "--detach", "--wait")
    with production.client() as client:
        assert client.get(made.headers["location"]).json()["title"] == "Still here"
