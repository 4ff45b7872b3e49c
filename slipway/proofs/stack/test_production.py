"""`make init` and a plain `docker compose up` are production. tests/test_system.py has what holds in any fork."""

import json
import re
import stat

import httpx
import pytest

from slipway.commands.shared.compose import development
from slipway.proofs.harness import PROXIES, SERVICES, Stack, copy_tree, unique, wait_until

pytestmark = pytest.mark.containers

SERVING = [service for service in SERVICES if service.serves and not service.host]


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
    assert {written.pop(name) for name in ("alert_smtp_secret", "alert_webhook_url")} == {""}  # to be filled in
    assert set(written) == {"secret_key", "status_token", "postgres_password", "monitor_password", *passwords}
    assert len(set(written.values())) == len(written)
    assert min(map(len, written.values())) > 40
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700

    (tmp_path / ".env").write_text("SITE_ADDRESS=shop.example\n")
    (secrets / "web_password").unlink()
    out = stack.make("init").stdout
    assert "created  secrets/web_password" in out
    assert (tmp_path / ".env").read_text() == "SITE_ADDRESS=shop.example\n"
    assert (secrets / "secret_key").read_text() == written["secret_key"]
    assert written.keys() < {path.name for path in secrets.iterdir()}


@pytest.mark.parametrize("proxy", PROXIES)
def test_every_container_is_started_again_unless_it_was_stopped_and_a_job_runs_once(production, proxy):
    given = {**production.environment, "PROXY": proxy}
    services = configured(production, "--profile", "*", env=given)
    jobs = {"roles"} | {each.job or each.name for each in SERVICES if each.job or each.kind == "script"}
    assert jobs < services.keys()
    assert {name: service.get("restart") for name, service in services.items()} == {
        name: "no" if name in jobs else "unless-stopped" for name in services
    }


def test_every_log_has_a_limit_in_production_and_in_development(production):
    for words in (["--profile", "*"], [*development()[2:], "--profile", "*"]):
        limits = {name: service.get("logging") for name, service in configured(production, *words).items()}
        assert limits == dict.fromkeys(limits, LIMITS)


LIMITS = {"driver": "local", "options": {"mode": "non-blocking", "max-size": "10m", "max-file": "5"}}


def configured(stack, *words, **options):
    """The services as compose reads them."""
    return json.loads(stack.compose(*words, "config", "--format", "json", **options).stdout)["services"]


def test_make_init_writes_settings_for_this_user_alone_and_their_defaults_are_what_holds(production, tmp_path):
    """Each line that is commented out says what holds without it."""
    written = production.directory / ".env"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert {stat.S_IMODE(path.stat().st_mode) for path in (production.directory / "secrets").iterdir()} == {0o644}
    (tmp_path / ".env").write_text(re.sub(r"^#(?=[A-Z])", "", written.read_text(), flags=re.MULTILINE))
    plain, given = (configured(production, *words) for words in ([], ["--env-file", str(tmp_path / ".env")]))
    assert given == plain


def test_the_page_answers_over_tls_that_the_proxys_own_authority_signed(production):
    with production.client() as client:
        home = client.get("/")
        assert home.status_code == 200
        assert "text/html" in home.headers["content-type"]


def test_the_public_learns_of_health_a_word_alone(production):
    with production.client() as client:
        for path in ("/health/ready", "/health/ready?for=traffic"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": "success"})


def test_plain_http_is_sent_to_https(production):
    port = production.environment["HTTP_PORT"]
    answer = httpx.get(f"http://localhost:{port}/a/page?number=2", trust_env=False)
    assert answer.status_code == 308
    assert answer.headers["location"] == f"https://localhost:{production.environment['HTTPS_PORT']}/a/page?number=2"


@pytest.mark.parametrize("service", SERVING, ids=lambda service: service.name)
def test_one_request_id_goes_from_the_client_through_the_log_to_the_response(production, service):
    with production.client() as client:
        answer = client.get(f"{service.prefix}/version", headers={"X-Request-ID": "promise-number-22"})
        assert answer.headers["x-request-id"] == "promise-number-22"
        forged = client.get(f"{service.prefix}/version", headers={"X-Request-ID": "no spaces, please"})
        assert forged.headers["x-request-id"] != "no spaces, please"
    lines = production.compose("logs", "--no-log-prefix", *service.replicas).stdout.splitlines()
    entries = [json.loads(line) for line in lines]
    assert any(e.get("request_id") == "promise-number-22" and e["path"].endswith("/version") for e in entries)


def test_without_a_restart_a_replica_logs_more_for_a_while_and_the_stack_of_each_thread(production):
    replica, other = SERVING[0].replicas

    def lines(name):
        return [json.loads(line) for line in production.compose("logs", "--no-log-prefix", name).stdout.splitlines()]

    started = production.container(replica)["State"]["StartedAt"]
    said = production.make("log-level", "level=debug", f"s={replica}", "for=3s").stdout
    assert re.search(rf"^{replica}: server, process \d+: DEBUG for 3 s, then INFO$", said, re.MULTILINE)
    assert re.search(rf"^{replica}: worker, process \d+: DEBUG for 3 s, then INFO$", said, re.MULTILINE)
    assert f"{replica}: worker" in production.make("stacks", f"s={replica}").stdout
    assert any("chassis/server/thread_pool.py" in line.get("stack", "") for line in lines(replica))
    again = "the log level is INFO again"
    wait_until(again, lambda: any(line["message"] == again for line in lines(replica)))
    assert not any(line["logger"] == "control" for line in lines(other))
    assert production.container(replica)["State"]["StartedAt"] == started
    refused = production.make("log-level", "level=LOUD", check=False)
    assert refused.returncode != 0
    assert "level= takes one of DEBUG, INFO" in refused.stderr


def test_rows_survive_down_and_up(production):
    production.sql("CREATE TABLE kept AS SELECT 'still here' AS text")
    production.compose("down")
    production.compose("up", "--detach", "--wait")
    assert production.sql("SELECT text FROM kept; DROP TABLE kept") == "still here"
