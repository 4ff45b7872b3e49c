"""`make kubernetes o=production`: prints an overlay of deploy/kubernetes with a release's images, for kubectl.

A kustomization above the overlay, in .cache/kubernetes, adds what changes with each release, so that no file of the
tree does: the images, by digest where `.images` notes one; the name of each job; and the label `release`. Standard
library only.
"""

import json
import re
import subprocess
import sys

from slipway.commands import ROOT, rename
from slipway.commands.deploy import chosen
from slipway.commands.shared import dotenv, inventory, registry
from slipway.commands.shared.compose import expect
from slipway.commands.shared.stop import Stop

OVERLAYS = ROOT / "deploy/kubernetes/overlays"
PLACE = ROOT / ".cache/kubernetes"
RENDER = ["kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone"]  # secrets/ and the kit are outside
JOBS = "{apiVersion: builtin, kind: PrefixSuffixTransformer, metadata: {name: jobs}, suffix: -%s, fieldSpecs: [%s]}"


def kubernetes(o: str = "production", tag: str = "", former: str = "") -> None:
    """Prints the overlay `o` with the release `tag`, by default this commit; `former` is the one that it replaces,
    whose static files are served beside its own."""
    if not (OVERLAYS / o / "kustomization.yaml").exists():
        known = sorted(path.parent.name for path in OVERLAYS.glob("*/kustomization.yaml"))
        raise Stop(f"there is no overlay {o}: o= takes {', '.join(known)}")
    release = chosen(tag)
    PLACE.mkdir(parents=True, exist_ok=True)
    (PLACE / "kustomization.yaml").write_text(kustomization(o, release, chosen(former) if former else release))
    try:
        run = subprocess.run([*RENDER, PLACE], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Stop("kubectl is not installed: https://kubernetes.io/docs/tasks/tools") from None
    if lacking := re.search(r"(secrets/\w+): no such file", run.stderr):
        raise Stop(f"there is no {lacking[1]}: `make init` writes it")
    print(expect(run, f"the overlay {o} can't be rendered"), end="")
    for each in inventory.all():
        if each.egress:
            print(f"{each.name} has no way out to {', '.join(each.egress)}: see docs/kubernetes.md", file=sys.stderr)


def kustomization(overlay: str, release: str, former: str) -> str:
    """In JSON, which YAML contains."""
    prefix = dotenv.get("IMAGE_PREFIX", f"{rename.current(ROOT)}/")
    names = {"proxy": ("proxy", release)}
    for each in inventory.all():
        names |= {each.name: (each.name, release), f"{each.name}-former": (each.name, former)}
    images = [{"name": name, **pinned(f"{prefix}{image}", tag)} for name, (image, tag) in names.items()]
    suffix = re.sub(r"[^a-z0-9]+", "-", release.lower()).strip("-")[:40]  # as a name in Kubernetes has to be
    return json.dumps(
        {
            "resources": [f"../../deploy/kubernetes/overlays/{overlay}"],
            "namespace": rename.current(ROOT),
            "images": images,
            "labels": [{"pairs": {"release": release}}],
            "transformers": [JOBS % (suffix, "{kind: Job, path: metadata/name}")],
        },
        indent=2,
    )


def pinned(image: str, tag: str) -> dict[str, str]:
    """What kustomize writes in place of an image's name."""
    digest = registry.noted().get(f"{image}:{tag}")
    return {"newName": image, **({"digest": digest} if digest else {"newTag": tag})}
