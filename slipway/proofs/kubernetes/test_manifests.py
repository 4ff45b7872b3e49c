"""Every overlay, rendered with a service of each kind: valid for Kubernetes, and no pod may more than it needs."""

import copy
import json
import re

import jsonschema_rs
import pytest
import yaml

from slipway.proofs.kubernetes.conftest import KINDS, OVERLAYS
from slipway.proofs.kubernetes.node import find, pod_of, rendered
from slipway.proofs.stack.test_egress import WEB, allow

pytestmark = pytest.mark.containers

RUNS = ("CronJob", "Deployment", "Job", "StatefulSet")
PROBES = ("startupProbe", "livenessProbe")
WAYS = {
    "web": {("web-egress", 443), ("web-egress-db-example-com", 5432)},
    "tick": {("tick-egress-mail-example-com", 465)},
}


@pytest.fixture(scope="module", params=OVERLAYS)
def documents(request, fork, node):
    return rendered(fork, request.param, "TAG=one", "FORMER=zero")


def validation(node, documents):
    """The lines of what is wrong, checked strictly: an unknown field is wrong, too."""
    validate = "cat > /tmp/all.yaml && kubernetes-validate --strict /tmp/all.yaml 2>&1"
    run = node.run("sh", "-c", validate, input=yaml.safe_dump_all(documents), check=False)
    wrong = [line for line in run.stdout.splitlines() if " passed " not in line]
    assert bool(run.returncode) == bool(wrong), run.stdout
    return wrong


def test_every_overlay_renders_and_is_valid_strictly(node, documents, record_property):
    assert validation(node, documents) == []
    record_property("figure", f"{len(documents)} objects for {len(KINDS) + 1} services")


def test_a_misspelt_probe_is_caught(node, documents):
    wrong = copy.deepcopy(documents)
    container = pod_of(find(wrong, "Deployment", "web"))["spec"]["containers"][0]
    container["readynessProbe"] = container.pop("readinessProbe")
    assert any("readynessProbe" in line for line in validation(node, wrong))


def deviations(document):
    """What breaks a rule, each by its name."""
    template, kind = pod_of(document), document["kind"]
    spec = template["spec"]
    if spec.get("automountServiceAccountToken") is not False or spec["serviceAccountName"] != "app":
        yield "no token"
    if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "namespaces of its own"
    security = spec["securityContext"]
    if not security.get("runAsNonRoot") or not security.get("runAsUser") or not security.get("runAsGroup"):
        yield "numeric user that is not root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "seccomp"
    for volume in spec.get("volumes", ()):
        if not {"emptyDir", "configMap", "secret", "persistentVolumeClaim"} & volume.keys():
            yield "no volume of the host"
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield "volumes of a limited size"
    if not any(label.startswith("network/") for label in template["metadata"]["labels"]):
        yield "a network, or none, by name"
    if kind == "Deployment" and spec.get("terminationGracePeriodSeconds", 30) <= 30:
        yield "time to stop"
    for container in spec.get("initContainers", []) + spec["containers"]:
        yield from of_container(container, kind, container in spec["containers"])


def of_container(container, kind, main):
    security = container.get("securityContext", {})
    if security.get("privileged") or security.get("allowPrivilegeEscalation") is not False:
        yield "no new privileges"
    if security.get("runAsUser") == 0:
        yield "numeric user that is not root"
    added = security.get("capabilities", {}).get("add", [])
    if security.get("capabilities", {}).get("drop") != ["ALL"] or added not in ([], ["NET_BIND_SERVICE"]):
        yield "no capabilities"
    if not security.get("readOnlyRootFilesystem"):
        yield "read-only root"
    if not re.search(r"(:|@sha256:)[\w.-]+$", container["image"]) or container["image"].endswith(":latest"):
        yield "an image with a tag or a digest"
    resources = container.get("resources", {})
    if any(resources.get(what, {}).keys() != {"cpu", "memory"} for what in ("requests", "limits")):
        yield "limits, and what it needs"
    if main and kind in ("Deployment", "StatefulSet") and not container.keys() >= set(PROBES):
        yield "probes"
    for probe in PROBES:
        if "/health/ready" in str(container.get(probe)):
            yield "live never asks the database"
    for variable in container.get("env", ()):
        name = variable["name"]
        if re.search(r"PASSWORD|SECRET|TOKEN|KEY", name) and not name.endswith("_FILE"):
            yield "no secret in the environment"


def test_no_pod_may_more_than_the_rules_say(documents):
    ran = [each for each in documents if each["kind"] in RUNS]
    assert {each["metadata"]["name"] for each in ran} >= {"proxy", "web", "web-egress", *KINDS}
    broken = {each["metadata"]["name"]: list(deviations(each)) for each in ran}
    assert {name: rules for name, rules in broken.items() if rules} == {}


def test_a_route_of_a_gateway_stands_in_the_ingresss_place_and_is_valid_strictly(fork, node):
    overlay = "deploy/kubernetes/overlays/production/kustomization.yaml"
    written = fork.read(overlay)
    fork.write(overlay, written.replace(" ingress.yaml,", " gateway.yaml,"))
    documents = rendered(fork, "production", "TAG=one")
    fork.write(overlay, written)
    assert ("Ingress", "proxy") not in {(each["kind"], each["metadata"]["name"]) for each in documents}
    route, schema = find(documents, "HTTPRoute", "proxy"), schema_of_routes(node)
    assert route["spec"]["hostnames"] == ["shop.example"]
    assert jsonschema_rs.is_valid(schema, route)
    (rule,) = route["spec"]["rules"]
    (backend,) = rule["backendRefs"]
    service = find(documents, "Service", backend["name"])
    assert backend["port"] in {each["port"] for each in service["spec"]["ports"]}
    rule["backendRef"] = rule.pop("backendRefs")
    assert not jsonschema_rs.is_valid(schema, route)


def schema_of_routes(node):
    """That of Gateway API 1.0, in which an unknown field is wrong, too."""
    source = node.run("cat", "/HTTPRoute.js").stdout
    schema = json.loads(re.search(r"const schema = (\{.*?\n\});", source, re.DOTALL)[1], object_hook=closed)
    return schema | {"properties": schema["properties"] | {"metadata": True}}  # its own schema is Kubernetes'


def closed(found):
    return found | {"additionalProperties": False} if isinstance(found.get("properties"), dict) else found


def test_the_namespace_refuses_what_the_restricted_standard_does_not_allow(documents):
    (namespace,) = [each for each in documents if each["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {each["metadata"].get("namespace", "slipway") for each in documents} == {namespace["metadata"]["name"]}


WRONG = {
    "no token": lambda spec, one: spec.pop("automountServiceAccountToken"),
    "namespaces of its own": lambda spec, one: spec.update(hostNetwork=True),
    "numeric user that is not root": lambda spec, one: one["securityContext"].update(runAsUser=0),
    "seccomp": lambda spec, one: spec["securityContext"].pop("seccompProfile"),
    "no volume of the host": lambda spec, one: spec["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "volumes of a limited size": lambda spec, one: spec["volumes"].append({"name": "x", "emptyDir": {}}),
    "no new privileges": lambda spec, one: one["securityContext"].update(privileged=True),
    "no capabilities": lambda spec, one: one["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
    "read-only root": lambda spec, one: one["securityContext"].pop("readOnlyRootFilesystem"),
    "an image with a tag or a digest": lambda spec, one: one.update(image="web:latest"),
    "limits, and what it needs": lambda spec, one: one["resources"]["limits"].pop("memory"),
    "probes": lambda spec, one: one.pop("livenessProbe"),
    "live never asks the database": lambda spec, one: one.update(livenessProbe=one["readinessProbe"]),
    "no secret in the environment": lambda spec, one: one["env"].append({"name": "SECRET_KEY", "value": "x"}),
    "time to stop": lambda spec, one: spec.pop("terminationGracePeriodSeconds"),
}


@pytest.mark.parametrize("rule", WRONG)
def test_a_pod_that_breaks_a_rule_is_found(documents, rule):
    wrong = copy.deepcopy(find(documents, "Deployment", "web"))
    spec = pod_of(wrong)["spec"]
    WRONG[rule](spec, spec["containers"][0])
    assert set(deviations(wrong)) == {rule}


def labels(document):
    return pod_of(document)["metadata"]["labels"]


def selected(policy, document):
    selector = policy["spec"]["podSelector"]
    wanted = selector.get("matchLabels", {}).items() <= labels(document).items()
    return wanted and not any(each["key"] in labels(document) for each in selector.get("matchExpressions", ()))


def test_a_pod_reaches_what_shares_a_network_with_it_and_nothing_else(documents):
    """Which pods may connect to which, and on which port, computed as Kubernetes does."""
    policies = [each for each in documents if each["kind"] == "NetworkPolicy"]
    pods = {each["metadata"]["name"].removesuffix("-one"): each for each in documents if each["kind"] in RUNS}

    def ports(one, other, direction, peers):
        """The ports that `one` is allowed by its policies; every pod has one that allows nothing by itself."""
        assert any(selected(each, one) and direction in each["spec"]["policyTypes"] for each in policies)
        for policy in policies:
            for rule in policy["spec"].get(direction.lower(), ()) if selected(policy, one) else ():
                wanted = [each.get("podSelector", {}).get("matchLabels") for each in rule.get(peers, ())]
                if any(each and each.items() <= labels(other).items() for each in wanted):
                    yield from (each["port"] for each in rule["ports"])

    reached = {
        (name, other, port)
        for name, one in pods.items()
        for other, two in pods.items()
        for port in set(ports(one, two, "Egress", "to")) & set(ports(two, one, "Ingress", "from"))
    }
    serving, using = {"web", "depot", "orders", "ui"}, {"web", "depot", "orders", "ledger", "report"}
    using |= {f"{each}-migrate" for each in using}
    for name in ("proxy", *serving):
        assert {(name, each, 8000) for each in serving} <= reached
    if "db" in pods:
        assert {(name, "db", 5432) for name in using} <= reached
    assert not any(
        pair[:2] in {("proxy", "db"), ("ui", "db"), ("db", "web")} and pair[2] == 5432 and pair[0] != "db"
        for pair in reached
    )
    ways = {each for each in reached if "egress" in each[1]}
    assert ways == {
        *((web, way, port) for web in ("web", "web-migrate") for way, port in WAYS["web"]),
        *(("tick", way, port) for way, port in WAYS["tick"]),
    }
    assert not any("tick" in pair or "egress" in pair[0] for pair in reached - ways)
    assert {port for _, _, port in reached - ways} == ({8000, 5432})


def test_the_names_of_the_hosts_lead_to_the_services_own_ways_and_no_other_pod_has_them(documents):
    """The address of each is that of a Service which leads to HAProxy, at the ports that it knows."""
    led = {
        each["metadata"]["name"].removesuffix("-one"): {
            (alias["ip"], *alias["hostnames"]) for alias in pod_of(each)["spec"]["hostAliases"]
        }
        for each in documents
        if each["kind"] in RUNS and "hostAliases" in pod_of(each)["spec"]
    }
    web = {("10.96.0.81", "api.example.com"), ("10.96.0.82", "db.example.com")}
    assert led == {"web": web, "web-migrate": web, "tick": {("10.96.0.80", "mail.example.com")}}
    services = [each["spec"] for each in documents if each["kind"] == "Service" and "clusterIP" in each["spec"]]
    assert {each["clusterIP"]: (each["selector"]["app"], each["ports"][0]["port"]) for each in services} == {
        "10.96.0.80": ("tick-egress-mail-example-com", 465),
        "10.96.0.81": ("web-egress", 443),
        "10.96.0.82": ("web-egress-db-example-com", 5432),
    }


def test_another_list_replaces_the_ways_pods_and_no_others(fork, documents):
    before = fork.read("services/web/pyproject.toml")
    try:
        allow(fork, "web", *WEB, "hooks.example.com:443")
        now = rendered(fork, "local", "TAG=one", "FORMER=zero")
    finally:
        fork.write("services/web/pyproject.toml", before)
    names = [name for its in WAYS.values() for name, _ in its]
    former, new = ({name: pod_of(find(each, "Deployment", name)) for name in names} for each in (documents, now))
    assert [name for name in names if former[name] != new[name]] == ["web-egress"]


def test_the_way_out_is_to_names_and_to_the_database_alone_and_haproxys_to_its_ports(documents):
    anywhere = set()
    for policy in documents:
        if policy["kind"] == "NetworkPolicy":
            for rule in policy["spec"].get("egress", ()):
                blocks = [each["ipBlock"]["cidr"] for each in rule.get("to", ()) if "ipBlock" in each]
                assert all(block.endswith("/32") for block in blocks)
                if not rule.get("to"):
                    app = policy["spec"]["podSelector"]["matchLabels"]["app"]
                    anywhere |= {(app, each["port"]) for each in rule["ports"]}
    assert anywhere == WAYS["web"] | WAYS["tick"]


def test_each_release_has_its_own_jobs_and_names_what_it_replaces(documents):
    jobs = [each["metadata"]["name"] for each in documents if each["kind"] == "Job"]
    assert jobs
    assert all(name.endswith("-one") for name in jobs)
    images = [each["image"] for each in pod_of(find(documents, "Deployment", "proxy"))["spec"]["initContainers"]]
    assert [image.rpartition(":")[2] for image in images] == ["zero", "one"] * 4
    assert all(each["metadata"]["labels"]["release"] == "one" for each in documents)
