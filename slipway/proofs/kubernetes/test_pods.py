"""The rendered pods really run: what is in them, what they may, and how one is replaced while requests come in."""

import json
import re
import subprocess
import time

import httpx
import pytest

from slipway.proofs.harness import wait_until
from slipway.proofs.kubernetes.node import find, pod_of, rendered
from slipway.proofs.stack.loadtest import LoadTest
from slipway.proofs.stack.test_egress import ASK, CERTIFICATE, HOSTS, TRY

pytestmark = [pytest.mark.containers, pytest.mark.alone]

READY, LIVE = "/health/ready?for=traffic", "/health/live"
MANIFESTS, BUILT = ("one", "two", "broken"), ("web", "ui", "ledger", "proxy")
TWO = "RUN echo '/* two */' >> /app/services/web/src/web/static/style.css"
BROKEN = "RUN echo 'Revisions.behind = lambda self, current: True' >> /app/slipway/chassis/src/chassis/db/revisions.py"
UIDS = {"web-1": 10001, "ui-1": 10001, "ledger-1": 10001, "proxy-1": 10002, "db": 999, "way": 99}


class System:
    """The pods of the overlay `local` on one node, and three releases of web."""

    def __init__(self, node) -> None:
        self.node, self.fork = node, node.tree
        self.url = f"http://localhost:{node.port}"
        settings = "deploy/kubernetes/overlays/local/settings.env"
        self.fork.write(settings, self.fork.read(settings) + "SLOWEST=2\n")

    def build(self) -> None:
        prefix = self.fork.environment["IMAGE_PREFIX"]
        one = self.fork.environment | {"TAG": "one", "SITE_ADDRESS": "localhost"}
        self.fork.compose("build", "--quiet", "web-a", "ui-a", "ledger", env=one)
        contexts = ("--build-context", "kit=slipway/proxy", "--build-context", "pages=docker/proxy/pages")
        proxy = ("--quiet", "--target", "complete", "--tag", f"{prefix}proxy:one", "docker/proxy/caddy")
        self.fork.run("docker", "build", *contexts, *proxy)
        for tag, change in {"two": TWO, "broken": BROKEN}.items():
            lines = [f"FROM {prefix}web:one", "USER 0", change, "USER 10001:10001", f"ENV VERSION={tag}"]
            self.fork.run("docker", "build", "--quiet", "--tag", f"{prefix}web:{tag}", "-", input="\n".join(lines))
            for name in set(BUILT) - {"web"}:
                self.fork.run("docker", "tag", f"{prefix}{name}:one", f"{prefix}{name}:{tag}")
        images = [f"{prefix}{name}:{tag}" for name in BUILT for tag in MANIFESTS]
        self.node.load(*images, "postgres:18-trixie", "haproxy:3.2")
        self.documents = {tag: rendered(self.fork, "local", f"TAG={tag}", "FORMER=one") for tag in MANIFESTS}
        for documents in self.documents.values():  # the images that were not built here
            proxy = pod_of(find(documents, "Deployment", "proxy"))["spec"]
            proxy["initContainers"] = [
                each for each in proxy["initContainers"] if each["name"].removesuffix("-former") in BUILT
            ]

    def play(self, kind: str, name: str, pod: str, *options: str, tag: str = "one") -> None:
        self.node.play(self.documents[tag], kind, name, pod, *options)

    def job(self, name: str) -> None:
        self.play("Job", f"{name}-one", name)
        wait_until(f"the job {name}", lambda: self.node.succeeded(name), 60)

    def ready(self, *pods: str) -> None:
        for pod in pods:
            wait_until(f"{pod} ready", lambda pod=pod: self.node.answers(pod, READY) == 200, 60)

    def get(self, path: str, **options) -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False, timeout=20, **options)


@pytest.fixture(scope="module")
def system(node):
    """Everything runs; web's pod started before the database had its schema."""
    system = System(node)
    system.build()
    system.play("StatefulSet", "db", "db")
    node.serve(db=["db"])
    postgres = ("pg_isready", "-q", "-h", "127.0.0.1")
    wait_until("Postgres", lambda: node.inside("db", *postgres, check=False).returncode == 0, 60)
    system.job("roles")
    system.play("Deployment", "web", "web-1")
    wait_until("web-1", lambda: node.answers("web-1", LIVE) == 200, 60)
    system.before = node.answers("web-1", READY)
    system.job("web-migrate")
    system.job("ledger-migrate")
    system.play("Deployment", "web", "web-2")
    system.play("Deployment", "ui", "ui-1")
    system.play("Deployment", "ledger", "ledger-1")
    system.ready("web-1", "web-2", "ui-1")
    node.serve(web_a=["web-1", "web-2"], web_b=["web-1", "web-2"], ui_a=["ui-1"], ui_b=["ui-1"])
    system.play("Deployment", "proxy", "proxy-1", "--publish", "8080:8080")
    wait_until("an answer through the proxy", lambda: system.get("/version").status_code == 200, 60)
    return system


def test_a_pod_is_alive_but_not_ready_until_the_job_has_migrated(system):
    assert system.before == 503
    assert system.node.answers("web-1", READY) == 200


@pytest.mark.parametrize("pod", list(UIDS)[:-1])
def test_from_inside_no_pod_may_anything(system, pod):
    status = system.node.inside(pod, "cat", "/proc/1/status").stdout
    value = {name: text.strip() for name, text in re.findall(r"^(\w+):(.*)$", status, re.MULTILINE)}
    assert (value["NoNewPrivs"], value["Seccomp"]) == ("1", "2")
    assert set(value["Uid"].split()) == {str(UIDS[pod])}
    assert int(value["CapEff"], 16) == (1 << 10 if pod.startswith("proxy") else 0)  # NET_BIND_SERVICE
    written = system.node.inside(pod, "sh", "-c", "echo > /written; echo > /etc/written", check=False)
    assert written.stderr.count("Read-only file system") == 2
    assert "kubernetes.io" not in system.node.inside(pod, "ls", "-R", "/run/secrets", check=False).stdout


@pytest.mark.parametrize(
    ("pod", "kind", "name"), [(f"{name}-1", "Deployment", name) for name in ("web", "proxy", "ui")]
)
def test_a_pods_limits_are_the_manifests(system, pod, kind, name):
    (container,) = pod_of(find(system.documents["one"], kind, name))["spec"]["containers"]
    host = json.loads(system.node.podman("inspect", f"{pod}-pod-app"))[0]["HostConfig"]
    limits = container["resources"]["limits"]
    assert host["Memory"] == int(limits["memory"].removesuffix("Mi")) * 2**20
    assert host["CpuQuota"] == int(limits["cpu"]) * host["CpuPeriod"]


def test_secrets_and_settings_are_there_as_files_and_variables_and_no_others_are(system):
    for pod, names in {
        "web-1": ("secret_key", "status_token", "web_password"),
        "ledger-1": ("ledger_password",),
        "db": ("postgres_password",),
    }.items():
        there = system.node.inside(pod, "sh", "-c", "cd /run/secrets && head *").stdout
        assert sorted(system.node.inside(pod, "ls", "/run/secrets").stdout.split()) == sorted(names)
        assert all(system.fork.read(f"secrets/{name}") in there for name in names)
    environment = system.node.inside("web-1", "env").stdout.splitlines()
    assert {"SITE_ADDRESS=http://localhost", "DATABASE_HOST=db", "SLOWEST=2"} <= set(environment)
    secrets = [text for path in (system.fork.directory / "secrets").iterdir() if (text := path.read_text().strip())]
    assert not any(secret in line for secret in secrets for line in environment)


def test_a_workers_heartbeat_is_its_probe_and_it_ends_within_its_time(system):
    assert system.node.run("podman", "healthcheck", "run", "ledger-1-pod-app", check=False).returncode == 0
    system.play("Deployment", "ledger", "ledger-2")
    beats = lambda: system.node.run("podman", "healthcheck", "run", "ledger-2-pod-app", check=False).returncode == 0  # noqa: E731
    wait_until("its heartbeat", beats)
    begun = time.monotonic()
    system.node.podman("pod", "stop", "ledger-2-pod")
    took = time.monotonic() - begun
    state = json.loads(system.node.podman("inspect", "ledger-2-pod-app"))[0]["State"]
    assert (state["ExitCode"], took < 20) == (0, True), took


@pytest.fixture
def certificate(system):
    """Two hosts outside run, on a network with names of its own, and web's way out to one of them; its certificate."""
    hosts = system.fork.directory / ".cache/hosts"
    hosts.mkdir()
    subprocess.run(CERTIFICATE.split(), cwd=hosts, check=True, capture_output=True)
    podman, image = system.node.podman, f"{system.fork.environment['IMAGE_PREFIX']}web:one"
    podman("network", "create", "outside")
    names = "outside:alias=api.example.com,alias=other.example.com"
    mount = f"--volume={hosts}:/hosts:ro"
    python = ("--entrypoint=python", image, "-uc", HOSTS)
    podman("run", "--detach", "--name=hosts", "--user=0", f"--network={names}", mount, *python)
    wait_until("the hosts", lambda: "ready" in podman("logs", "hosts"))
    system.play("Deployment", "web-egress", "way", "--network=outside")
    healthy = lambda: system.node.run("podman", "healthcheck", "run", "way-pod-app", check=False).returncode == 0  # noqa: E731
    wait_until("the way out", healthy)
    system.node.serve(**{"egress-10-96-0-81": ["way"]})
    return (hosts / "cert.pem").read_text()


def test_a_pod_reaches_the_host_that_it_named_and_through_its_way_no_other(system, certificate):
    """No setting names HAProxy, whose pod is as limited as every other and asks the names of its own network."""
    asked = system.node.inside("web-1", "python", "-c", ASK, certificate, "https://api.example.com/")
    assert asked.stdout == "from outside\n"
    tried = {
        "api.example.com 443 api.example.com": "reached",
        "api.example.com 443 other.example.com": "EOF",  # another name in the handshake
        "api.example.com 443 none": "EOF",
        "api.example.com 443 plain": "closed",
        "other.example.com 443 other.example.com": "gaierror",
        f"{system.node.ip('way')} 8443 api.example.com": "refused",
        f"{system.node.ip('way')} 8404 plain": "refused",
    }
    said = system.node.inside("web-1", "python", "-c", TRY, certificate, *tried).stdout.splitlines()
    assert {what: one for (what, one) in zip(tried, said, strict=True) if tried[what] not in one} == {}
    logged = [line for line in system.node.logs("way").splitlines() if '"egress"' in line]
    assert json.loads(logged[0])["host"] == "api.example.com"
    test_from_inside_no_pod_may_anything(system, "way")
    system.node.stop("way")
    system.node.podman("rm", "--force", "hosts")


def test_behind_an_ingress_the_app_knows_the_address_that_the_client_asked_for(system):
    ingress = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "localhost", "X-Forwarded-For": "192.0.2.7"}
    assert system.get("/probe/url", headers=ingress).text == "https://localhost/probe/url"
    line = next(line for line in reversed(system.node.logs("proxy-1").splitlines()) if "/probe/url" in line)
    assert json.loads(line)["request"]["client_ip"] == "192.0.2.7"
    assert system.get("/probe/url").text.startswith("http://localhost")
    assert system.get("/version", headers={"Host": "other.example"}).status_code == 421


def test_the_proxy_serves_the_page_of_a_static_service_and_no_internals(system):
    assert "<html" in system.get("/front/").text
    assert system.get("/metrics").status_code == 404


def test_a_service_on_a_host_of_its_own_is_asked_for_without_tls_too(system):
    """None of its pods runs here, but the site says that this is internal, where an unknown host would get a 421."""
    assert system.get("/metrics", headers={"Host": "depot.localhost"}).status_code == 404


def test_the_hashed_files_of_both_releases_are_served(system, record_property):
    """By a proxy's pod of the second release, before any of web's pods is of it."""
    system.play("Deployment", "proxy", "proxy-2", tag="two")
    wait_until("it serves", lambda: "serving initial configuration" in system.node.logs("proxy-2"))
    names = system.node.inside("proxy-2", "ls", "/srv/static/web/static").stdout.split()
    styles = [name for name in names if re.fullmatch(r"style\.\w+\.css", name)]
    assert len(styles) == 2
    for name in styles:
        where = f"http://127.0.0.1:8080/static/{name}"
        said = system.node.inside("proxy-2", "wget", "-S", "-O", "/dev/null", "--header", "Host: localhost", where)
        assert "immutable" in said.stderr
    record_property("figure", f"{len(names)} files of two releases")
    system.node.stop("proxy-2")


def test_a_release_that_is_never_ready_gets_no_request(system):
    """Its Deployment keeps the former pods, since none may be missing, and reports failure after its deadline."""
    system.play("Deployment", "web", "web-broken", tag="broken")
    wait_until("it lives", lambda: system.node.answers("web-broken", LIVE) == 200, 60)
    assert system.node.answers("web-broken", READY) == 503
    strategy = find(system.documents["broken"], "Deployment", "web")["spec"]
    assert strategy["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert strategy["progressDeadlineSeconds"] == 120
    system.node.stop("web-broken")


def test_pods_are_replaced_under_load_and_nothing_is_dropped(system, record_property):
    """As the Deployment rolls: a new pod, ready, one more; then an old one less, its pause, SIGTERM, its drain."""
    node = system.node
    (pause,) = {
        each["lifecycle"]["preStop"]["sleep"]["seconds"]
        for each in pod_of(find(system.documents["two"], "Deployment", "web"))["spec"]["containers"]
    }
    serving = ["web-1", "web-2"]
    with LoadTest(system.url, None) as load:
        time.sleep(3)  # under load before anything changes
        for old, new in (("web-1", "web-3"), ("web-2", "web-4")):
            system.play("Deployment", "web", new, tag="two")
            system.ready(new)
            serving.append(new)
            node.serve(web_a=serving, web_b=serving)
            serving.remove(old)
            node.serve(web_a=serving, web_b=serving)
            time.sleep(pause)  # the kubelet's
            node.stop(old)
        time.sleep(3)
    assert system.get("/version").json()["version"] == "two"
    record_property("figure", str(load))
    assert load.failures == []
