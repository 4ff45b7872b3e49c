"""The manifests of deploy/kubernetes and compose's files say the same, and never drift apart; and `make kubernetes`."""

import json
import re
from collections.abc import Iterator

import pytest
import yaml

from slipway.commands import ROOT, kubernetes
from slipway.commands.shared import egress as shared
from slipway.commands.shared import inventory, registry
from slipway.commands.shared.stop import Stop
from slipway.proofs.harness import SERVICES, Service

DEPLOY, KIT = ROOT / "deploy/kubernetes", ROOT / "slipway/kubernetes"
PROXY, DATABASE = DEPLOY / "base/proxy.yaml", DEPLOY / "overlays/local/database.yaml"
# Compose sets these for `make deploy`, and where the database is, the overlay says.
OTHERWISE = {"TAG", "PREVIOUS_TAG", "DATABASE_HOST", "DATABASE_URL"}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
LISTS = ("env", "volumeMounts")  # kustomize adds to these
UNITS = {"m": 2**20, "g": 2**30, "Mi": 2**20, "Gi": 2**30}


def composed(name: str, *files: str) -> dict:
    """A service of compose's, with what it extends, and with the defaults of its variables."""
    found: dict = {}
    for file in files:
        path = ROOT / f"compose/{file}.yaml"
        own = yaml.safe_load(filled(path.read_text()))["services"].get(name, {})
        shared = yaml.safe_load(filled((ROOT / "slipway/compose/service.yaml").read_text()))["services"]
        for each in (shared[own["extends"]["service"]] if "extends" in own else {}, own):
            for key, value in each.items():
                found[key] = {**found.get(key, {}), **value} if isinstance(value, dict) else value
    return found


def filled(text: str) -> str:
    return re.sub(r"\$\{\w+:?[-?]([^}]*)\}", r"\1", text)


class Pod:
    """A pod as kustomize merges it: `documents` in order, the later ones on top."""

    def __init__(self, *documents: dict) -> None:
        templates = [template(each) for each in documents]
        self.labels = templates[-1]["metadata"]["labels"]
        self.spec, self.container = {}, {}
        for each in templates:
            self.spec |= each["spec"]
            (container,) = each["spec"].pop("containers")
            for key, value in container.items():
                self.container[key] = self.container.get(key, []) + value if key in LISTS else value
        self.volumes = {each["name"]: each for one in templates for each in one["spec"].get("volumes", [])}

    @property
    def env(self) -> dict[str, str]:
        return {each["name"]: each["value"] for each in self.container["env"] if "value" in each}

    @property
    def secrets(self) -> set[str]:
        items = self.volumes.get("secrets", {}).get("secret", {}).get("items", [])
        return {each["path"] for each in items}

    @property
    def limits(self) -> tuple[float, int]:
        limits = self.container["resources"]["limits"]
        return float(limits["cpu"]), size(limits["memory"])

    @property
    def grace(self) -> int:
        """Seconds from SIGTERM."""
        pause = self.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        return self.spec["terminationGracePeriodSeconds"] - pause

    @property
    def networks(self) -> set[str]:
        return {key.removeprefix("network/") for key in self.labels if key.startswith("network/")}


def template(document: dict) -> dict:
    spec = document["spec"]
    found: dict = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]
    return {"metadata": {"labels": {}}, **json.loads(json.dumps(found))}


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w+)", text).groups()
    return int(number) * UNITS[unit]


def documents(path) -> Iterator[dict]:
    return yaml.safe_load_all(path.read_text())


def find(path, kind: str, name: str) -> dict:
    return next(each for each in documents(path) if (each["kind"], each["metadata"]["name"]) == (kind, name))


def kit(name: str) -> dict:
    return next(documents(KIT / f"{name}.yaml"))


def pod(service: inventory.Service) -> Pod:
    path = DEPLOY / f"services/{service.name}/{service.name}.yaml"
    if service.kind == "script":
        return Pod(kit("script"), find(path, "CronJob", service.name))
    kind = "replica" if service.serves else "worker"
    return Pod(kit("hardened"), kit("service"), kit(kind), find(path, "Deployment", service.name))


def assert_same(ours: Pod, theirs: dict) -> None:
    environment = {key: str(value) for key, value in theirs.get("environment", {}).items() if key not in OTHERWISE}
    assert ours.env == environment
    assert ours.secrets == set(theirs.get("secrets", []))
    assert ours.limits == (float(theirs["cpus"]), size(theirs["mem_limit"]))
    networks = set(theirs.get("networks", [])) - {"watched"} or {"none"}  # Prometheus is in compose alone
    assert ours.networks == networks
    for each in theirs.get("tmpfs", []):
        place, bytes = each.partition(":")[0], size(re.search(r"size=(\w+)", each)[1])
        (name,) = (mount["name"] for mount in ours.container["volumeMounts"] if mount["mountPath"] == place)
        assert size(ours.volumes[name]["emptyDir"]["sizeLimit"]) == bytes
        assert ours.volumes[name]["emptyDir"]["medium"] == "Memory"
    if period := theirs.get("stop_grace_period"):
        assert ours.grace == int(period.removesuffix("s"))


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_services_pod_has_what_its_replica_has_in_compose(service):
    assert_same(pod(service), composed([*service.replicas, service.name][0], service.name))


@pytest.mark.parametrize("service", [each for each in SERVICES if each.database], ids=lambda service: service.name)
def test_the_job_that_migrates_has_what_it_has_in_compose(service):
    path = DEPLOY / f"services/{service.name}/{service.name}.yaml"
    job = Pod(kit("hardened"), kit("service"), kit("job"), find(path, "Job", f"{service.name}-migrate"))
    assert_same(job, composed(service.job, service.name))


def test_the_proxys_pod_and_the_databases_have_what_they_have_in_compose():
    proxy = Pod(kit("hardened"), find(PROXY, "Deployment", "proxy"))
    theirs = composed("proxy", "proxy.caddy")
    assert (proxy.limits, proxy.networks) == ((float(theirs["cpus"]), size(theirs["mem_limit"])), {"edge", "front"})
    assert proxy.grace == int(theirs["stop_grace_period"].removesuffix("s"))
    assert proxy.container["startupProbe"]["exec"]["command"] == theirs["healthcheck"]["test"][1:]
    database = Pod(kit("hardened"), find(DATABASE, "StatefulSet", "db"))
    theirs = composed("db", "base", "prod")
    assert_same(database, theirs)
    assert database.container["args"] == [each.split(" ")[0] for each in theirs["command"]]
    assert database.container["startupProbe"]["exec"]["command"] == theirs["healthcheck"]["test"][1:]
    assert size(database.volumes["shm"]["emptyDir"]["sizeLimit"]) == size(theirs["shm_size"])


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_each_kind_is_asked_as_its_image_is(service):
    """Live never asks the database, ready drains; without HTTP there is the heartbeat; a start may take as long."""
    dockerfile = (ROOT / "docker/service.Dockerfile").read_text()
    container = pod(service).container
    if service.kind == "script":
        assert not any(key.endswith("Probe") for key in container)
        return
    start = container["startupProbe"]
    period = int(re.search(r"--start-period=(\d+)s", dockerfile)[1])
    assert start["failureThreshold"] * start["periodSeconds"] >= period
    for probe in ("startupProbe", "livenessProbe"):
        asked = container[probe]
        if service.serves:
            assert asked["httpGet"] == {"path": "/health/live", "port": "http"}
        else:
            assert json.dumps(asked["exec"]["command"]) in dockerfile
    if service.serves:
        assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready?for=traffic"  # as the proxy asks


def test_what_is_printed_names_the_images_of_the_release_and_of_the_former_one(monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGE_PREFIX", "registry.example/shop/")
    monkeypatch.setattr(registry, "FILE", tmp_path / ".images")
    digest = f"sha256:{'0' * 64}"
    (tmp_path / ".images").write_text(f"registry.example/shop/proxy:v2.0 {digest}\n")
    told = json.loads(kubernetes.kustomization("production", "v2.0", "v1.9", []))
    images = {each.pop("name"): each for each in told["images"]}
    assert images["proxy"] == {"newName": "registry.example/shop/proxy", "digest": digest}
    for service in SERVICES:
        image = f"registry.example/shop/{service.name}"
        assert images[service.name] == {"newName": image, "newTag": "v2.0"}
        assert images[f"{service.name}-former"] == {"newName": image, "newTag": "v1.9"}
    assert told["labels"] == [{"pairs": {"release": "v2.0"}}]
    assert "suffix: -v2-0," in told["transformers"][0]


def test_an_unknown_overlay_and_a_machine_without_kubectl_are_one_line(monkeypatch):
    with pytest.raises(Stop, match="there is no overlay nope: o= takes local, production"):
        kubernetes.kubernetes("nope")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Stop, match="kubectl is not installed"):
        kubernetes.kubernetes("local", "one")


@pytest.fixture
def tree(monkeypatch, tmp_path):
    """An overlay `own`, whose services `make kubernetes` would ask for ways out."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own/kustomization.yaml").touch()
    monkeypatch.setattr(kubernetes, "OVERLAYS", tmp_path)
    monkeypatch.setattr(kubernetes, "PLACE", tmp_path / "place")
    return tmp_path


def say(monkeypatch, *services):
    monkeypatch.setattr(inventory, "all", lambda: list(services))


def test_the_ways_out_have_addresses_in_the_order_of_their_names(monkeypatch, tree):
    (tree / "own/settings.env").write_text("EGRESS_ADDRESS=10.96.0.254\n")
    web = Service("web", egress=("db.example.com:5432", "api.example.com:443"))
    tick = Service("tick", "worker", database=False, egress=(f"{'mail.' * 12}example.com:465",))
    say(monkeypatch, web, tick)
    ways = kubernetes.ways_out("own")
    assert [way.address for way in ways] == ["10.96.0.254", "10.96.0.255", "10.96.1.0"]
    assert [way.name for way in ways[1:]] == ["web-egress", "web-egress-db-example-com"]
    assert ways[0].name.startswith("tick-egress-mail-mail-")
    assert len(ways[0].name) == 63  # as long as a label may be
    added = kubernetes.added(ways)
    patched = [json.loads(each["patch"]) for each in added["patches"] if "patch" in each]
    assert [each["metadata"]["name"] for each in patched] == ["tick", "web", "web-migrate"]
    assert patched[0]["spec"]["template"]["metadata"]["labels"] == {
        f"network/{ways[0].name}": "10.96.0.254",
        "network/none": None,
    }


def test_a_pod_that_was_told_of_another_order_is_refused_and_led_to_no_other_host(monkeypatch, tree):
    """Its former address may lead to another host at the same port."""
    (tree / "own/settings.env").write_text("EGRESS_ADDRESS=10.96.0.80\n")

    def ways(*hosts):
        say(monkeypatch, Service("web", egress=tuple(f"{host}.example.com:5432" for host in hosts)))
        return kubernetes.ways_out("own")

    def admitted(labels):
        for way in now:
            objects = yaml.safe_load_all(kubernetes.pods(way))
            policy = next(each["spec"] for each in objects if each["kind"] == "NetworkPolicy")
            (peer,) = policy["ingress"][0]["from"]
            if peer["podSelector"]["matchLabels"].items() <= labels.items():
                yield way.name

    former, now = ways("b", "c"), ways("a", "b", "c")
    told, tells = (
        kubernetes.patch(each[0].service, each, "Deployment", "web")["spec"]["template"]["metadata"]["labels"]
        for each in (former, now)
    )
    assert list(admitted(told)) == []
    assert list(admitted(tells)) == [way.name for way in now]


def test_a_way_outs_pod_has_what_its_container_has_in_compose(monkeypatch, tree):
    (tree / "own/settings.env").write_text("EGRESS_ADDRESS=10.96.0.80\n")
    say(monkeypatch, Service("web", egress=("api.example.com:443",)))
    deployment = next(yaml.safe_load_all(kubernetes.pods(kubernetes.ways_out("own")[0])))
    theirs = yaml.safe_load(filled((ROOT / "slipway/compose/service.yaml").read_text()))["services"]["egress"]
    ours = Pod(kit("hardened"), deployment)
    assert ours.limits == (float(theirs["cpus"]), size(theirs["mem_limit"]))
    assert ours.container["image"] == theirs["image"]
    assert f"{ours.spec['securityContext']['runAsUser']}:{ours.spec['securityContext']['runAsGroup']}" == theirs["user"]
    test = theirs["healthcheck"]["test"][1:]
    assert [ours.container[probe]["exec"]["command"] for probe in PROBES] == [test] * 3
    longest = int(re.search(r"hard-stop-after (\d+)m", shared.HAPROXY.template)[1]) * 60
    assert ours.grace > longest


def test_egress_without_an_address_is_one_line_and_without_any_egress_nothing_is_added(monkeypatch, tree):
    say(monkeypatch, Service("web"))
    assert kubernetes.ways_out("own") == []
    told = json.loads(kubernetes.kustomization("own", "one", "one", []))
    assert (told["resources"], told.keys() & {"patches", "configMapGenerator"}) == (
        ["../../deploy/kubernetes/overlays/own"],
        set(),
    )
    say(monkeypatch, Service("web", egress=("api.example.com:443",)))
    for line in ("", "EGRESS_ADDRESS=\n", "EGRESS_ADDRESS=api.example.com\n"):
        (tree / "own/settings.env").write_text(line)
        with pytest.raises(Stop, match=r"web has egress: set EGRESS_ADDRESS in .*/own/settings\.env to the first of 1"):
            kubernetes.kubernetes("own", "one")
    assert not (tree / "place").exists()


def test_every_service_is_in_the_list():
    listed = yaml.safe_load((DEPLOY / "services/kustomization.yaml").read_text())["components"]
    assert sorted(listed) == [service.name for service in SERVICES]
