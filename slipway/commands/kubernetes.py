"""`make kubernetes o=production`: prints an overlay of deploy/kubernetes with a release's images, for kubectl.

A kustomization above the overlay, in .cache/kubernetes, adds what changes with each release, so that no file of the
tree does: the images, by digest where `.images` notes one; the name of each job; the label `release`; and the
services' ways out. Standard library only.
"""

import hashlib
import json
import re
import subprocess
from ipaddress import IPv4Address
from string import Template
from typing import Any, NamedTuple

from slipway.commands import ROOT, rename
from slipway.commands.deploy import chosen
from slipway.commands.shared import dotenv, egress, inventory, registry
from slipway.commands.shared.compose import expect
from slipway.commands.shared.inventory import Service
from slipway.commands.shared.stop import Stop

OVERLAYS = ROOT / "deploy/kubernetes/overlays"
PLACE = ROOT / ".cache/kubernetes"
KIT = ROOT / "slipway/kubernetes"
RENDER = ["kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone"]  # secrets/ and the kit are outside
JOBS = "{apiVersion: builtin, kind: PrefixSuffixTransformer, metadata: {name: jobs}, suffix: -%s, fieldSpecs: [%s]}"


class Way(NamedTuple):
    """A way out on the cluster: its name, the service that has it, and the address that leads to it."""

    name: str
    service: Service
    out: egress.Way
    address: str


def kubernetes(o: str = "production", tag: str = "", former: str = "") -> None:
    """Prints the overlay `o` with the release `tag`, by default this commit; `former` is the one that it replaces,
    whose static files are served beside its own."""
    if not (OVERLAYS / o / "kustomization.yaml").exists():
        known = sorted(path.parent.name for path in OVERLAYS.glob("*/kustomization.yaml"))
        raise Stop(f"there is no overlay {o}: o= takes {', '.join(known)}")
    release = chosen(tag)
    ways = ways_out(o)
    PLACE.mkdir(parents=True, exist_ok=True)
    (PLACE / "kustomization.yaml").write_text(kustomization(o, release, chosen(former) if former else release, ways))
    (PLACE / "egress.yaml").write_text("---\n".join(map(pods, ways)))
    for way in ways:
        (PLACE / f"{way.name}.cfg").write_text(egress.haproxy(way.out))
    try:
        run = subprocess.run([*RENDER, PLACE], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Stop("kubectl is not installed: https://kubernetes.io/docs/tasks/tools") from None
    if lacking := re.search(r"(secrets/\w+): no such file", run.stderr):
        raise Stop(f"there is no {lacking[1]}: `make init` writes it")
    print(expect(run, f"the overlay {o} can't be rendered"), end="")


def kustomization(overlay: str, release: str, former: str, ways: list[Way]) -> str:
    """In JSON, which YAML contains."""
    prefix = dotenv.get("IMAGE_PREFIX", f"{rename.current(ROOT)}/")
    names = {"proxy": ("proxy", release)}
    for each in inventory.all():
        names |= {each.name: (each.name, release), f"{each.name}-former": (each.name, former)}
    images = [{"name": name, **pinned(f"{prefix}{image}", tag)} for name, (image, tag) in names.items()]
    suffix = re.sub(r"[^a-z0-9]+", "-", release.lower()).strip("-")[:40]  # as a name in Kubernetes has to be
    return json.dumps(
        {
            "resources": [f"../../deploy/kubernetes/overlays/{overlay}", *(["egress.yaml"] if ways else [])],
            "namespace": rename.current(ROOT),
            "images": images,
            "labels": [{"pairs": {"release": release}}],
            "transformers": [JOBS % (suffix, "{kind: Job, path: metadata/name}")],
            **(added(ways) if ways else {}),
        },
        indent=2,
    )


def pinned(image: str, tag: str) -> dict[str, str]:
    """What kustomize writes in place of an image's name."""
    digest = registry.noted().get(f"{image}:{tag}")
    return {"newName": image, **({"digest": digest} if digest else {"newTag": tag})}


def ways_out(overlay: str) -> list[Way]:
    """By name; the first one has the overlay's EGRESS_ADDRESS, and each other the next address."""
    found = [(cut(out.name), service, out) for service in inventory.all() for out in egress.ways(service)]
    if not found:
        return []
    found.sort(key=lambda each: each[0])
    settings = OVERLAYS / overlay / "settings.env"
    try:
        first = IPv4Address(dotenv.in_file(settings).get("EGRESS_ADDRESS", ""))
        return [Way(*each, str(first + number)) for number, each in enumerate(found)]
    except ValueError:
        raise Stop(
            f"{found[0][1].name} has egress: set EGRESS_ADDRESS in deploy/kubernetes/overlays/{overlay}/settings.env to"
            f" the first of {len(found)} free addresses for Services: docs/kubernetes.md"
        ) from None


def cut(name: str) -> str:
    """Names and labels have 63 characters at most."""
    return name if len(name) <= 63 else f"{name[:54]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def pods(way: Way) -> str:
    return Template((KIT / "egress.yaml").read_text()).substitute(
        name=way.name,
        service=f"egress-{way.address.replace('.', '-')}",
        address=way.address,
        registry=dotenv.get("REGISTRY"),
        ports=json.dumps([{"port": port} for port in way.out.ports]),
        named=json.dumps([{"name": f"port-{port}", "port": port} for port in way.out.ports]),
    )


def added(ways: list[Way]) -> dict[str, list[Any]]:
    """To the kustomization: each list, under a name with a hash, so that another one replaces the pods; and patches."""
    labels = {"labels": {"kind": "egress"}}
    target = {"kind": "Deployment", "labelSelector": "kind=egress"}
    users = {way.service.name: way.service for way in ways}.values()
    return {
        "configMapGenerator": [
            {"name": way.name, "files": [f"haproxy.cfg={way.name}.cfg"], "options": labels} for way in ways
        ],
        "patches": [
            {"path": "../../slipway/kubernetes/hardened.yaml", "target": target},
            *(
                {"patch": json.dumps(patch(service, [way for way in ways if way.service == service], kind, name))}
                for service in users
                for kind, name in pods_of(service)
            ),
        ],
    }


def pods_of(service: Service) -> list[tuple[str, str]]:
    """The kinds and names of `egress.users`."""
    migrates = [("Job", f"{service.name}-migrate")] if service.database else []
    return [("CronJob" if service.kind == "script" else "Deployment", service.name), *migrates]


def patch(service: Service, ways: list[Way], kind: str, name: str) -> dict[str, Any]:
    """The hosts' names lead this service's pods to its ways, and HAProxy itself to the hosts."""
    labels: dict[str, Any] = {f"network/{way.name}": way.address for way in ways}
    if not (service.serves or service.database):
        labels["network/none"] = None
    aliases = [{"ip": way.address, "hostnames": way.out.hosts} for way in ways]
    spec: dict[str, Any] = {"template": {"metadata": {"labels": labels}, "spec": {"hostAliases": aliases}}}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": spec}}
    api = "apps/v1" if kind == "Deployment" else "batch/v1"
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec}
