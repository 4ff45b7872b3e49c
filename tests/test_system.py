"""The whole system, started once as the README says: what holds whatever the services are.

`make test-stack` runs it after the images' contract. It gets the services from the inventory, so that a new one
is covered as soon as it is created, and uses only the routes that the chassis gives to each.
"""

import json
import re
from contextlib import ExitStack

import httpx
import pytest

from slipway.proofs.faults.injection import Load
from slipway.proofs.harness import SERVICES, Stack, copy_tree, ports, started, to_host, unique, wait_until

pytestmark = [pytest.mark.containers, pytest.mark.alone]

SERVING = [service for service in SERVICES if service.serves]
REPLICAS = [replica for service in SERVICES for replica in service.replicas]
JOBS = [service.job for service in SERVICES if service.job]
WITH_DATABASE = [service.name for service in SERVICES if service.database]


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    """Production with all services; the proxy's own authority signs for each host instead of a public one."""
    tree = copy_tree(tmp_path_factory.mktemp("system"))
    caddyfile = tree / "docker/proxy/caddy/Caddyfile"
    caddyfile.write_text(re.sub(r"^\{$", "{\n\tlocal_certs", caddyfile.read_text(), count=1, flags=re.MULTILINE))
    with started(Stack(tree, unique("system"), **ports())) as stack:
        yield stack


@pytest.fixture(scope="module")
def ask(system):
    """Gets a path of a service as users do: through the proxy, on the service's path or host."""
    trust = system.trust()

    def get(service, path):
        url = f"https://localhost:{system.environment['HTTPS_PORT']}{service.prefix}{path}"
        with httpx.Client(verify=trust, trust_env=False, timeout=20) as client:
            return client.get(url, **to_host(service.host))

    return get


def states(system):
    """What the engine says about each container, by its compose service."""
    return {c["Config"]["Labels"]["com.docker.compose.service"]: c for c in system.containers()}


def test_every_service_answers_through_the_proxy_on_its_path_or_host(ask):
    answers = {service.name: {ask(service, "/version").status_code for _ in range(4)} for service in SERVING}
    assert answers == {service.name: {200} for service in SERVING}


def test_every_replica_and_every_worker_is_healthy(system):
    containers = states(system)
    assert {name: containers[name]["State"]["Health"]["Status"] for name in REPLICAS} == dict.fromkeys(
        REPLICAS, "healthy"
    )


def test_the_one_shot_jobs_ended_well_and_before_their_service_started(system):
    containers = states(system)
    for service in SERVICES:
        if service.job and service.replicas:
            job, app = (containers[name]["State"] for name in (service.job, service.replicas[0]))
            assert (job["Status"], job["ExitCode"]) == ("exited", 0), service.job
            assert job["FinishedAt"] < app["StartedAt"], service.job


def test_only_the_listener_publishes_ports(system):
    containers = states(system)
    assert {name for name, c in containers.items() if any(c["NetworkSettings"]["Ports"].values())} == {"listener"}


def test_metrics_are_not_public(system, ask):
    assert {service.name: ask(service, "/metrics").status_code for service in SERVING} == {
        service.name: 404 for service in SERVING
    }
    fetch = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/metrics').read().decode())"
    for service in SERVING:
        for name in service.replicas:
            assert "http_requests_total" in system.compose("exec", "-T", name, "python", "-c", fetch).stdout


def test_the_apps_role_makes_no_table(system):
    for name in WITH_DATABASE:
        assert system.sql_as_app("SELECT 1", name).stdout.strip() == "1"
        refused = system.sql_as_app("CREATE TABLE mine (id int)", name)
        assert "permission denied" in refused.stderr, name


def test_every_line_of_the_logs_is_one_json_object(system):
    for line in system.compose("logs", "--no-log-prefix", *REPLICAS, *JOBS).stdout.splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys()


def test_a_deploy_under_load_fails_no_request(system, ask, record_property):
    site, authority = f"https://localhost:{system.environment['HTTPS_PORT']}", system.authority()
    with ExitStack() as clients:
        loads = {
            service.name: clients.enter_context(
                Load(f"{site}{service.prefix}/version", threads=2, certificate=authority, host=service.host)
            )
            for service in SERVING
        }
        wait_until("load", lambda: all(len(load.answers) > 20 for load in loads.values()))
        release = re.match(r"deploy (\S+)", system.make("deploy").stdout)[1]
    asked, errors = sum(len(load.answers) for load in loads.values()), sum(load.errors for load in loads.values())
    record_property("figure", f"{asked} requests, {errors} failed")
    assert errors == 0, {name: load.broken for name, load in loads.items()}
    containers = states(system)
    assert {name: containers[name]["Config"]["Image"].rpartition(":")[2] for name in REPLICAS} == dict.fromkeys(
        REPLICAS, release
    )
    assert {service.name: ask(service, "/version").json()["version"] for service in SERVING} == {
        service.name: release for service in SERVING
    }
