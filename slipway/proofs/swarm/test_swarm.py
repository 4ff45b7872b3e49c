"""Production on three nodes of Docker Swarm, from the files that `make stack` writes, behind a load balancer."""

import json
import re
import time
from collections.abc import Iterator
from functools import partial

import pytest

from slipway.proofs.harness import copy_tree, wait_until, with_probe
from slipway.proofs.stack.clients import Clients
from slipway.proofs.stack.loadtest import LoadTest
from slipway.proofs.stack.test_egress import ASK as REACH
from slipway.proofs.stack.test_egress import TRY
from slipway.proofs.swarm.balancer import Balancer
from slipway.proofs.swarm.nodes import NODES, Swarm

pytestmark = [pytest.mark.containers, pytest.mark.alone]

# A line for each name, as migrations have them: readiness reads the file.
BAD_MIGRATION = """
RUN printf 'from alembic import op\\nrevision = "bad"\\ndown_revision = "{head}"\\n\\
def upgrade():\\n    op.execute("SELECT 1 / 0")\\n' > /app/services/web/migrations/versions/bad.py
"""
RESTYLED = "RUN echo '/* restyled */' >> /app/services/web/src/web/static/style.css"
STYLE = re.compile(r'"(/static/style\.[0-9a-f]{8}\.css)"')
PSQL = "PGPASSWORD=$(cat /run/secrets/postgres_password) psql -XqAt -U postgres -h 127.0.0.1"
NETWORKS = "    networks: [front, back]\n"  # of the replicas
TABLE = "[tool.slipway]\n"  # of the service
REPLICAS = ("web-a", "web-b")
ASK = "import urllib.request as u, json; print(json.load(u.urlopen('http://127.0.0.1:8000/version'))['version'])"


@pytest.fixture(scope="module")
def swarm(tmp_path_factory) -> Iterator[Swarm]:
    swarm = Swarm(with_probe(copy_tree(tmp_path_factory.mktemp("swarm"))))
    try:
        # Less patience than 90 s, so that a release that is never ready takes less of the tests' time.
        compose = swarm.directory / "compose/web.yaml"
        patience = "    healthcheck: { interval: 5s, start_period: 20s }\n"
        compose.write_text(compose.read_text().replace(NETWORKS, NETWORKS + patience, 1))
        project = swarm.directory / "services/web/pyproject.toml"
        project.write_text(project.read_text().replace(TABLE, f'{TABLE}egress = ["api.example.com:443"]\n'))
        swarm.make("egress")
        swarm.make("init")
        swarm.start()
        swarm.build()
        swarm.begin_outside(tmp_path_factory.mktemp("hosts"))
        swarm.set(SLOWEST=2)
        swarm.deploy(swarm.release("first"))
        yield swarm
    finally:
        swarm.destroy()


@pytest.fixture(scope="module")
def certificates(swarm) -> str:
    return swarm.authorities()


@pytest.fixture
def balancer(swarm) -> Iterator[Balancer]:
    with Balancer(list(swarm.addresses.values())) as balancer:
        yield balancer


def versions(swarm) -> list[str | None]:
    return [swarm.inside(name, "python", "-c", ASK) for name in REPLICAS]


def get(swarm, path: str, node: str) -> tuple[int, str]:
    """The status, and the body, of what one node's proxy answers."""
    curl = ("curl", "--silent", "--insecure", "--noproxy", "*", "--write-out", "\n%{http_code}")
    address = ("--resolve", f"localhost:443:{swarm.addresses[node]}")
    body, _, status = swarm.run(*curl, *address, f"https://localhost{path}").stdout.rpartition("\n")
    return int(status), body


def test_migrations_run_once_and_before_the_first_replica(swarm):
    logs = swarm.manage("service", "logs", "--raw", f"{swarm.name}_migrate")
    assert logs.count("Running upgrade  -> ") == 1
    ended = max(each["CompletedAt"] for each in status(swarm, "migrate"))
    assert ended < min(each["StartedAt"] for name in REPLICAS for each in status(swarm, name))


def status(swarm, service: str) -> list[dict]:
    """When each completed or running task started, and reached its state."""
    ids = swarm.manage("service", "ps", "--quiet", "--no-trunc", f"{swarm.name}_{service}").split()
    tasks = json.loads(swarm.manage("inspect", "--type", "task", *ids))
    good = [each for each in tasks if each["Status"]["State"] in ("complete", "running")]
    return [{"StartedAt": each["CreatedAt"], "CompletedAt": each["Status"]["Timestamp"]} for each in good]


def test_the_database_is_on_its_node_and_a_pair_never_shares_one(swarm):
    assert swarm.node_of("db") == "one"
    assert swarm.node_of("web-a") != swarm.node_of("web-b")


def test_secrets_are_swarms_in_memory_and_the_services_own(swarm):
    secret = (swarm.directory / "secrets/secret_key").read_text().strip()
    assert secret not in swarm.manage("service", "inspect", f"{swarm.name}_web-a")
    assert secret not in json.dumps(swarm.inspect("web-a"))
    for service, user in (("web-a", "10001:10001"), ("db", "999:999")):
        for file in swarm.inside(service, "sh", "-c", "stat -c '%a %u:%g %n' /run/secrets/*").splitlines():
            assert file.startswith(f"400 {user} "), file
        mounts = swarm.inside(service, "grep", " /run/secrets/", "/proc/mounts").splitlines()
        assert {line.split()[2] for line in mounts} == {"tmpfs"}
    assert swarm.inside("web-a", "cat", "/run/secrets/secret_key") == secret
    files = "".join((swarm.directory / "deploy/swarm" / name).read_text() for name in ("before.yaml", "stack.yaml"))
    assert secret not in files


@pytest.mark.parametrize("service", ["db", "proxy", "web-egress", *REPLICAS])
def test_what_a_container_may_is_what_it_may_on_one_server(swarm, service):
    node = "two" if service == "proxy" else swarm.node_of(service)
    found = swarm.inspect(service, node)
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] == (["CAP_NET_BIND_SERVICE"] if service == "proxy" else None)
    assert host["Memory"]
    assert host["NanoCpus"]
    assert host["PidsLimit"] > 0
    assert host["LogConfig"] == {
        "Type": "local",
        "Config": {"max-file": "5", "max-size": "10m", "mode": "non-blocking"},
    }
    assert bool(found["NetworkSettings"]["Ports"].get("443/tcp")) is (service == "proxy")
    state = swarm.inside(service, "cat", "/proc/1/status", node=node)
    for line in ("NoNewPrivs:\t1", "Uid:\t" if service == "proxy" else "CapEff:\t0000000000000000"):
        assert line in state
    assert "Uid:\t0" not in state
    assert "Read-only file system" in swarm.docker_says(node, found["Id"], "touch", "/opt/x")
    for line in swarm.inside(service, "cat", "/proc/mounts", node=node).splitlines():
        _, place, kind, options = line.split()[:4]
        if kind == "tmpfs" and place in ("/tmp", "/run/postgresql", "/dev/shm"):
            assert {"rw", "nosuid", "nodev", "noexec"} <= set(options.split(",")), line
            assert "size=" in options


def test_only_the_proxy_and_a_way_out_lead_outside(swarm):
    """And the proxy can't reach the database."""
    for service in ("db", *REPLICAS):
        assert "00000000" not in destinations(swarm, service, "")
    for service, node in (("proxy", "two"), ("web-egress", "")):
        assert "00000000" in destinations(swarm, service, node)
    known = [swarm.inside("proxy", "getent", "hosts", name, node="two", check=False) for name in ("web-a", "db")]
    assert [bool(each) for each in known] == [True, False]


def destinations(swarm, service: str, node: str) -> list[str]:
    """Of its routes; the default one's is 00000000."""
    routes = swarm.inside(service, "cat", "/proc/net/route", node=node).splitlines()[1:]
    assert routes
    return [line.split()[1] for line in routes]


def test_a_service_reaches_the_host_that_it_named_and_no_other(swarm):
    ask = ("python", "-c", REACH, swarm.certificate, "https://api.example.com/")
    assert [swarm.inside(name, *ask) for name in REPLICAS] == ["from outside"] * 2
    tried = {
        "other.example.com 443 other.example.com": "gaierror",
        f"{swarm.outside} 443 api.example.com": "unreachable",
        "api.example.com 443 other.example.com": "EOF",  # another name in the handshake
    }
    said = (swarm.inside("web-a", "python", "-c", TRY, swarm.certificate, *tried) or "").splitlines()
    assert [word in line for word, line in zip(tried.values(), said, strict=True)] == [True] * 3, said


def test_a_rolling_update_drops_nothing_and_serves_the_files_of_both_releases(
    swarm, certificates, balancer, record_property
):
    former = STYLE.search(get(swarm, "/", "one")[1])[1]
    swarm.release("second", RESTYLED)
    began = time.monotonic()
    with LoadTest(f"https://localhost:{balancer.port}", certificates) as load:
        wait_until("load", lambda: len(load.answers) > 100)
        swarm.deploy("second")
        both = [former, STYLE.search(get(swarm, "/", "one")[1])[1]]
        served = {path: [get(swarm, path, node)[0] for node in NODES] for path in both}
    record_property("figure", f"{load}, in {time.monotonic() - began:.0f} s")
    assert versions(swarm) == ["second", "second"]
    assert load.failures == []
    assert served == {path: [200, 200, 200] for path in both}
    assert len(served) == 2
    assert swarm.node_of("web-a") != swarm.node_of("web-b")


def test_a_new_proxy_is_rolled_out_node_by_node(swarm, certificates, balancer, record_property):
    with Clients(certificates, balancer.port) as clients:
        wait_until("load", lambda: clients.total > 100)
        swarm.manage("service", "update", "--quiet", "--force", "--detach=false", f"{swarm.name}_proxy")
    record_property("figure", str(clients))
    assert len(clients.failed) <= len(NODES), clients.failed  # a connection that a proxy accepted as it was ending


def test_a_release_that_is_never_ready_goes_back_by_itself_and_fails_nothing(
    swarm, certificates, balancer, record_property
):
    """Its migration fails, and so its replicas find the database behind."""
    versions_before = versions(swarm)
    head = swarm.inside("db", "sh", "-c", f"{PSQL} -d web -c 'SELECT version_num FROM alembic_version'")
    bad = swarm.release("bad", BAD_MIGRATION.format(head=head).strip())
    began = time.monotonic()
    with LoadTest(f"https://localhost:{balancer.port}", certificates) as load:
        swarm.deploy(bad, wait=False)
        for name in REPLICAS:
            wait_until(f"{name} to be back", partial(rolled_back, swarm, name), 240)
    record_property("figure", f"{load}; back after {time.monotonic() - began:.0f} s")
    assert versions(swarm) == versions_before
    assert load.failures == []
    assert "division by zero" in swarm.manage("service", "logs", "--raw", f"{swarm.name}_migrate")


def rolled_back(swarm, service: str) -> bool:
    found = json.loads(swarm.manage("service", "inspect", f"{swarm.name}_{service}"))[0]
    return found.get("UpdateStatus", {}).get("State") == "rollback_completed"


def test_a_killed_node_costs_few_requests_and_its_work_moves(swarm, certificates, balancer, record_property):
    victim = next(each for each in (swarm.node_of(name) for name in REPLICAS) if each != "one")
    moved = next(name for name in REPLICAS if swarm.node_of(name) == victim)
    with Clients(certificates, balancer.port) as clients:
        wait_until("load", lambda: clients.total > 100)
        swarm.docker("kill", swarm.container_of(victim))
        began = time.monotonic()
        wait_until(f"{moved} elsewhere", lambda: swarm.node_of(moved) not in (None, victim), 60)
        took = time.monotonic() - began
    record_property("figure", f"{clients}; moved after {took:.1f} s")
    assert len(clients.failed) < 10, clients.failed
    assert took < 20


def test_a_node_that_is_back_takes_part_in_the_next_release_where_nginx_takes_caddys_place(swarm):
    swarm.restart()
    swarm.set(PROXY="nginx")
    swarm.build_proxy("nginx")
    swarm.deploy(swarm.release("nginx"))
    for node in NODES:
        wait_until(f"nginx on {node}", partial(served_by_nginx, swarm, node), 120)
        assert [get(swarm, path, node)[0] for path in ("/", "/version", "/metrics")] == [200, 200, 404]
    assert versions(swarm) == ["nginx", "nginx"]


def served_by_nginx(swarm, node: str) -> bool:
    return "nginx" in swarm.inspect("proxy", node)["Path"] and get(swarm, "/health/ready", node)[0] == 200
