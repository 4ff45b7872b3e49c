"""Three nodes of a swarm, each an engine in a container of its own, with a registry and a checkout to deploy from."""

import json
import re
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from slipway.proofs.harness import ROOT, Stack, unique, wait_until
from slipway.proofs.stack.test_egress import CERTIFICATE, HOSTS

Json = dict[str, Any]
NODES = ("one", "two", "three")
HERE = ROOT / "slipway/proofs/swarm"
REGISTRY = ("docker-registry", "serve", "/etc/registry.yaml")
RESOLVER = ("dnsmasq", "--keep-in-foreground", "--user=root", "--no-resolv")
PYTHON = "python:3.14-slim-trixie"
ADDRESS = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
ROOT_CERTIFICATE = "/data/caddy/pki/authorities/local/root.crt"


class Swarm(Stack):
    """All nodes are managers, so that any two of them can do without the third; the database is on the first."""

    def __init__(self, directory: Path) -> None:
        self.name = unique("swarm")
        super().__init__(directory, self.name, IMAGE_PREFIX="registry:5000/team/", REGISTRY="registry:5000/")
        self.addresses: dict[str, str] = {}
        self.registry = ""
        self.outside = self.certificate = ""  # the address of every host outside, and its certificate

    def start(self) -> None:
        self.docker("build", "--quiet", "--tag", self.name, "--file", HERE / "node.Dockerfile", HERE)
        self.docker("network", "create", self.name)
        self.begin("registry", "--network-alias=registry", "--publish=127.0.0.1::5000", serve=REGISTRY)
        self.registry = self.docker("port", self.container_of("registry"), "5000")
        for node in NODES:
            # /run is empty when it starts again, as after a boot.
            options = ("--privileged", f"--hostname={node}", f"--volume={self.directory}:/checkout:ro", "--tmpfs=/run")
            self.addresses[node] = self.begin(node, *options)
        self.wait_for_engines()
        self.manage("swarm", "init", "--advertise-addr", self.addresses["one"], "--dispatcher-heartbeat", "2s")
        token = self.manage("swarm", "join-token", "--quiet", "manager")
        for node in NODES[1:]:
            self.on(node, "docker", "swarm", "join", "--token", token, f"{self.addresses['one']}:2377")
        self.manage("node", "update", "--label-add", "slipway.database=true", "one")

    def wait_for_engines(self) -> None:
        for node in NODES:
            wait_until(f"the engine of node {node}", partial(self.on, node, "docker", "info", check=False))

    def restart(self) -> None:
        """The nodes that are down."""
        self.docker("start", *map(self.container_of, NODES))
        self.wait_for_engines()
        wait_until("all nodes", lambda: self.manage("node", "ls", "--format", "{{.Status}}").split() == ["Ready"] * 3)

    def begin(self, name: str, *options: str, serve: tuple[str, ...] = (), image: str = "") -> str:
        """Its address."""
        given = ("--detach", f"--network={self.name}", f"--name={self.container_of(name)}", *options)
        self.docker("run", *given, image or self.name, *serve)
        return self.docker("inspect", "--format", ADDRESS, self.container_of(name))

    def begin_outside(self, files: Path) -> None:
        """A host outside, which has every name that ends in example.com; ways out ask the resolver that says so."""
        subprocess.run(CERTIFICATE.split(), cwd=files, check=True, capture_output=True)
        (files / "hosts.py").write_text(HOSTS)
        self.certificate = (files / "cert.pem").read_text()
        program = ("python", "-u", "/hosts/hosts.py")
        self.outside = self.begin("hosts", f"--volume={files}:/hosts:ro", serve=program, image=PYTHON)
        resolver = self.begin("resolver", serve=(*RESOLVER, f"--address=/example.com/{self.outside}"))
        self.set(EGRESS_DNS=f"{resolver}:53")

    def set(self, **settings: object) -> None:
        with (self.directory / ".env").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in settings.items())

    def destroy(self) -> None:
        for name in (*NODES, "registry", "hosts", "resolver"):
            self.run("docker", "rm", "--force", "--volumes", self.container_of(name), check=False)
        self.run("docker", "network", "rm", self.name, check=False)
        names = [f"{self.name}/*", *([f"{self.registry}/*", f"{self.registry}/*/*"] if self.registry else [])]
        own = [f"--filter=reference={name}" for name in names]  # `*` never stands for a slash
        images = self.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", *own).split()
        self.run("docker", "image", "rm", "--force", self.name, *images, check=False)

    def container_of(self, node: str) -> str:
        return f"{self.name}-{node}"

    def docker(self, *words: str | Path, **options: Any) -> str:
        return self.run("docker", *map(str, words), **options).stdout.strip()

    def on(self, node: str, *words: str, check: bool = True) -> str | None:
        """What a command prints on a node; None if it fails and need not succeed."""
        run = self.run(
            "docker", "exec", "--workdir=/checkout", self.container_of(node), *words, check=check, timeout=300
        )
        return None if run.returncode else run.stdout.strip()

    def manage(self, *words: str) -> str:
        return self.on("one", "docker", *words) or ""

    def push(self, image: str, name: str) -> None:
        """Has the registry hold it under this name, and notes its digest beside .env, as `make push` does."""
        self.docker("tag", image, there := f"{self.registry}/{name}")
        said = self.docker("push", there)
        with (self.directory / ".images").open("a") as file:
            file.write(f"registry:5000/{name} {re.search('digest: (sha256:[0-9a-f]{64})', said)[1]}\n")

    def build(self) -> None:
        """The images of the checkout: the service's, from which releases are made, and the proxy's."""
        self.compose(
            "build", "--quiet", "web-a", env=self.environment | {"REGISTRY": "", "IMAGE_PREFIX": f"{self.name}/"}
        )
        for image in ("postgres:18-trixie", "haproxy:3.2"):
            self.push(image, image)
        self.build_proxy("caddy")

    def build_proxy(self, name: str) -> None:
        contexts = ("--build-context=kit=slipway/proxy", "--build-context=pages=docker/proxy/pages")
        built = ("--target=complete", *contexts, "--tag", f"{self.name}/proxy", f"docker/proxy/{name}")
        self.docker("build", "--quiet", *built)

    def release(self, tag: str, *changes: str) -> str:
        """Pushes a release that differs by its version and by the Dockerfile's lines given; the proxy is the same."""
        lines = [f"FROM {self.name}/web:local", "USER 0", *changes, "USER 10001:10001", f"ENV VERSION={tag}"]
        self.docker("build", "--quiet", "--tag", image := f"{self.name}/web:{tag}", "-", input="\n".join(lines))
        self.push(image, f"team/web:{tag}")
        self.push(f"{self.name}/proxy", f"team/proxy:{tag}")
        return tag

    def deploy(self, tag: str, wait: bool = True) -> str:
        """Does what `make stack` prints, and returns all that was printed; without `wait`, returns at once."""
        said = self.make("stack", f"TAG={tag}").stdout
        for command in re.findall(r"^  (docker stack deploy .*)", said, re.MULTILINE):
            command = command if wait else command.replace("--detach=false", "--detach=true")
            said += self.on("one", *command.split()) or ""
        return said

    def tasks(self, service: str) -> list[Json]:
        """A service's tasks, the newest first: Node, DesiredState, CurrentState, Image, Error."""
        lines = self.manage("service", "ps", "--no-trunc", "--format", "{{json .}}", f"{self.name}_{service}")
        return [json.loads(line) for line in lines.splitlines()]

    def node_of(self, service: str) -> str | None:
        """Where its one task runs, healthy."""
        meant = [each for each in self.tasks(service) if each["DesiredState"] == "Running"]
        return meant[0]["Node"] if len(meant) == 1 and meant[0]["CurrentState"].startswith("Running") else None

    def inspect(self, service: str, node: str = "") -> Json:
        """`docker inspect` of the container that a node runs for it."""
        node = node or self.node_of(service) or ""
        name = self.on(
            node, "docker", "ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={self.name}_{service}"
        )
        return json.loads(self.on(node, "docker", "inspect", *name.split()) or "[]")[0]

    def inside(self, service: str, *words: str, node: str = "", check: bool = True) -> str | None:
        node = node or self.node_of(service) or ""
        return self.on(node, "docker", "exec", self.inspect(service, node)["Id"], *words, check=check)

    def docker_says(self, node: str, container: str, *words: str) -> str:
        """What a command that fails in a container says."""
        return self.run(
            "docker", "exec", self.container_of(node), "docker", "exec", container, *words, check=False
        ).stderr

    def authorities(self) -> str:
        """The certificates of every proxy's own authority."""
        return "\n".join(self.inside("proxy", "cat", ROOT_CERTIFICATE, node=node) or "" for node in NODES)
