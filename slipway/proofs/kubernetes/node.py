"""A node without a control plane: renders the manifests, and runs their pods with podman.

podman knows pods, Deployments of one pod, Jobs, ConfigMaps and Secrets. What a control plane would do, a test does
here: Services are nftables rules, as kube-proxy's are, and lead to a pod once it is ready; a test asks the probes by
HTTP.
"""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from slipway.commands.shared import dotenv
from slipway.proofs.forks.fork import Fork
from slipway.proofs.harness import ROOT, free_port, unique

HERE = ROOT / "slipway/proofs/kubernetes"
IMAGE = "slipway-test/kubernetes-node"
NETWORK = "pods"
# What each Service's address is; a rule leads from it to the pods that are ready.
SERVICES = {"web-a": "10.96.0.1", "web-b": "10.96.0.2", "ui-a": "10.96.0.3", "ui-b": "10.96.0.4", "db": "10.96.0.5"}
SERVICES |= {"egress-10-96-0-81": "10.96.0.81"}
PORTS = {"db": 5432, "egress-10-96-0-81": 443}  # of the others 8000

Document = dict[str, Any]


class Node:
    def __init__(self, tree: Fork, directory: Path) -> None:
        self.tree, self.directory, self.name, self.port = tree, directory, unique("node"), free_port()
        self.ready: dict[str, list[str]] = {name: [] for name in SERVICES}

    def start(self) -> None:
        self.tree.run(
            "docker", "build", f"--build-arg=REGISTRY={dotenv.get('REGISTRY')}", "--quiet", "--tag", IMAGE, HERE
        )
        publish = ("--publish", f"127.0.0.1:{self.port}:8080")
        mount = f"{self.tree.directory}:{self.tree.directory}:ro"
        self.tree.run(
            "docker", "run", "--detach", "--privileged", "--name", self.name, "--volume", mount, *publish, IMAGE
        )
        self.podman("network", "create", NETWORK)
        program = self.directory / "kubectl"
        program.write_text(f'#!/bin/sh\nexec docker exec {self.name} kubectl "$@"\n')
        program.chmod(0o755)
        self.tree.environment["PATH"] = f"{self.directory}:{self.tree.environment['PATH']}"

    def remove(self) -> None:
        self.tree.run("docker", "rm", "--force", "--volumes", self.name)

    def run(self, *words: str, **options: Any) -> Any:
        return self.tree.run("docker", "exec", "--interactive", self.name, *words, **{"input": "", **options})

    def podman(self, *words: str, **options: Any) -> str:
        return self.run("podman", *words, **options).stdout.strip()

    def load(self, *images: str) -> None:
        """From the engine, through a pipe."""
        self.tree.run("sh", "-c", f'docker save "$@" | docker exec -i {self.name} podman load -q', "sh", *images)

    def play(self, documents: list[Document], kind: str, name: str, pod: str, *options: str) -> None:
        """Runs one pod of this Deployment, StatefulSet or Job, under a name of its own, with options of podman's."""
        document = prepared(find(documents, kind, name), pod)
        text = json.dumps(document)
        parts = [each for each in documents if each["kind"] in ("ConfigMap", "Secret")]
        for each in parts:
            # podman keeps one volume for each name, whatever keys a pod asks for.
            former = each["metadata"]["name"]
            text = text.replace(f'"{former}"', f'"{former}-{pod}"') if is_named(former, document) else text
        given = [{**each, "metadata": {"name": f"{each['metadata']['name']}-{pod}"}} for each in parts]
        network = ("--network", f"{NETWORK}:alias={pod}")
        self.podman(
            "kube", "play", *network, *options, "-", input=yaml.safe_dump_all([*given, *claims(kind), json.loads(text)])
        )

    def stop(self, pod: str) -> None:
        """As the kubelet does, after its pause: SIGTERM, and SIGKILL when the termination period is over."""
        self.podman("pod", "stop", f"{pod}-pod")
        self.podman("pod", "rm", f"{pod}-pod")

    def inside(self, pod: str, *words: str, **options: Any) -> Any:
        return self.run("podman", "exec", f"{pod}-pod-app", *words, **options)

    def logs(self, pod: str, container: str = "app") -> str:
        run = self.run("podman", "logs", f"{pod}-pod-{container}", check=False)
        return run.stdout + run.stderr

    def succeeded(self, pod: str) -> bool:
        state = json.loads(self.podman("inspect", f"{pod}-pod-app"))[0]["State"]
        assert state["Status"] != "exited" or state["ExitCode"] == 0, self.logs(pod)
        return state["Status"] == "exited"

    def ip(self, pod: str) -> str:
        infra = json.loads(self.podman("pod", "inspect", f"{pod}-pod"))
        infra = (infra[0] if isinstance(infra, list) else infra)["InfraContainerID"]
        return json.loads(self.podman("inspect", infra))[0]["NetworkSettings"]["Networks"][NETWORK]["IPAddress"]

    def answers(self, pod: str, path: str, port: int = 8000) -> int:
        """The status of a probe by HTTP; 0 without an answer."""
        code = (
            "import sys, urllib.request, urllib.error\n"
            "try: print(urllib.request.urlopen(sys.argv[1], timeout=3).status)\n"
            "except urllib.error.HTTPError as error: print(error.code)\n"
            "except OSError: print(0)"
        )
        return int(self.run("python", "-c", code, f"http://{self.ip(pod)}:{port}{path}").stdout)

    def serve(self, **services: list[str]) -> None:
        """Each Service leads to these pods from now on; connections that are there stay where they are."""
        self.ready |= {name.replace("_", "-"): [self.ip(pod) for pod in pods] for name, pods in services.items()}
        rules = ["table ip services", "delete table ip services", "table ip services {", "chain to {"]
        rules += ["type nat hook prerouting priority -110;"]
        for name, addresses in self.ready.items():
            if addresses:
                chosen = ", ".join(f"{number} : {address}" for number, address in enumerate(addresses))
                where = f"ip daddr {SERVICES[name]} tcp dport {PORTS.get(name, 8000)}"
                rules.append(f"{where} dnat to numgen random mod {len(addresses)} map {{ {chosen} }}")
        rules += ["}", "chain from {", "type nat hook postrouting priority 90;"]
        rules += ["ip daddr 10.89.0.0/16 ct status dnat masquerade", "}", "}"]
        self.run("nft", "-f", "-", input="\n".join(rules))


@contextmanager
def running(tree: Fork, directory: Path) -> Iterator[Node]:
    node = Node(tree, directory)
    try:
        node.start()
        yield node
    finally:
        node.remove()


def rendered(tree: Fork, overlay: str, *words: str) -> list[Document]:
    """What `make kubernetes` prints."""
    return list(yaml.safe_load_all(tree.make("--silent", "kubernetes", f"o={overlay}", *words).stdout))


def find(documents: list[Document], kind: str, name: str) -> Document:
    return next(each for each in documents if (each["kind"], each["metadata"]["name"]) == (kind, name))


def pod_of(document: Document) -> Document:
    spec = document["spec"]
    found: Document = spec.get("jobTemplate", {"spec": spec})["spec"]["template"]
    return found


def is_named(name: str, document: Document) -> bool:
    return f'"{name}"' in json.dumps(pod_of(document)["spec"])


def prepared(document: Document, pod: str) -> Document:
    """Only what podman doesn't know is left out; names of Services are those of their addresses."""
    document = copy.deepcopy(document)
    document["metadata"] = {"name": pod}
    spec = pod_of(document)["spec"]
    names = [{"ip": address, "hostnames": [name]} for name, address in SERVICES.items()]
    spec["hostAliases"] = [*names, *spec.get("hostAliases", [])]
    for container in spec["containers"]:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "httpGet" in container.get(probe, {}):
                del container[probe]  # podman asks by a curl in the container
    if document["kind"] == "StatefulSet":
        document["kind"] = "Deployment"
        names = [claim["metadata"]["name"] for claim in document["spec"].pop("volumeClaimTemplates")]
        spec["volumes"] += [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names]
    return document


def claims(kind: str) -> list[Document]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec}
    return [claim] if kind == "StatefulSet" else []
