"""`make init` and a plain `docker compose up` are production."""

import json
import stat

import httpx
import pytest

from harness import SERVICES, Stack, copy_tree, unique

pytestmark = pytest.mark.containers

SERVING = [service for service in SERVICES if service.serves]
REPLICAS = [f"{service.name}-{letter}" for service in SERVING for letter in "ab"]
JOBS = [service.job for service in SERVICES if service.job]


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
    roles = [service.name for service in SERVICES if service.database]
    passwords = {f"{name}{role}_password" for name in roles for role in ("", "_owner")}
    assert set(written) == {"secret_key", "status_token", "postgres_password", *passwords}
    assert len(set(written.values())) == len(written)
    assert min(map(len, written.values())) > 40
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700

    (tmp_path / ".env").write_text("SITE_ADDRESS=shop.example\n")
    (secrets / "web_password").unlink()
    out = stack.make("init").stdout
    assert "created  secrets/web_password" in out
    assert (tmp_path / ".env").read_text() == "SITE_ADDRESS=shop.example\n"
    assert (secrets / "secret_key").read_text() == written["secret_key"]
    assert sorted(path.name for path in secrets.iterdir()) == sorted(written)


def test_the_page_answers_over_tls_that_the_proxys_own_authority_signed(production):
    with production.client() as client:
        home = client.get("/")
        assert home.status_code == 200
        assert "text/html" in home.headers["content-type"]


def test_plain_http_is_sent_to_https(production):
    port = production.environment["HTTP_PORT"]
    answer = httpx.get(f"http://localhost:{port}/a/page?number=2", trust_env=False)
    assert answer.status_code == 308
    assert answer.headers["location"] == f"https://localhost:{production.environment['HTTPS_PORT']}/a/page?number=2"


def test_both_replicas_of_every_service_serve(production):
    with production.client() as client:
        answers = {s.name: {client.get(f"{s.path}version").status_code for _ in range(4)} for s in SERVING}
    assert answers == {service.name: {200} for service in SERVING}
    states = {c["Config"]["Labels"]["com.docker.compose.service"]: c["State"] for c in production.containers()}
    assert {name: states[name]["Health"]["Status"] for name in REPLICAS} == dict.fromkeys(REPLICAS, "healthy")


def test_the_one_shot_migration_ended_well_and_before_the_app_started(production):
    for service in SERVING:
        job, app = (production.container(name)["State"] for name in (service.job, f"{service.name}-a"))
        assert (job["Status"], job["ExitCode"]) == ("exited", 0)
        assert job["FinishedAt"] < app["StartedAt"]


def test_only_the_proxy_publishes_a_port(production):
    published = {
        c["Config"]["Labels"]["com.docker.compose.service"]
        for c in production.containers()
        if any(c["NetworkSettings"]["Ports"].values())
    }
    assert published == {"proxy"}


def test_metrics_are_not_public(production):
    with production.client() as client:
        assert {client.get(f"{service.path}metrics").status_code for service in SERVING} == {404}
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/metrics').read().decode())"
    for name in REPLICAS:
        assert "http_requests_total" in production.compose("exec", "-T", name, "python", "-c", ask).stdout


@pytest.mark.parametrize("service", SERVING, ids=lambda service: service.name)
def test_one_request_id_goes_from_the_client_through_the_log_to_the_response(production, service):
    with production.client() as client:
        answer = client.get(f"{service.path}version", headers={"X-Request-ID": "promise-number-22"})
        assert answer.headers["x-request-id"] == "promise-number-22"
        forged = client.get(f"{service.path}version", headers={"X-Request-ID": "no spaces, please"})
        assert forged.headers["x-request-id"] != "no spaces, please"
    replicas = f"{service.name}-a", f"{service.name}-b"
    lines = production.compose("logs", "--no-log-prefix", *replicas).stdout.splitlines()
    entries = [json.loads(line) for line in lines]
    assert any(e.get("request_id") == "promise-number-22" and e["path"].endswith("/version") for e in entries)


def test_every_line_of_the_apps_log_is_one_json_object(production):
    for line in production.compose("logs", "--no-log-prefix", *REPLICAS, *JOBS).stdout.splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys()


def test_rows_survive_down_and_up(production):
    production.sql("CREATE TABLE kept AS SELECT 'still here' AS text")
    production.compose("down")
    production.compose("up", "--detach", "--wait")
    assert production.sql("SELECT text FROM kept; DROP TABLE kept") == "still here"
