"""`make stack`: what compose runs on one server, as two files for Docker Swarm, which `docker stack deploy` takes.

deploy/swarm/before.yaml has what keeps data, and the jobs that a release runs first; Swarm runs a job again whenever
it is deployed, so deploy/swarm/stack.yaml has only what serves. Both come from `docker compose config` with the
settings of `.env`, so that nothing is written twice. What Swarm says in other words is translated; what it can't say
is named, a line each; a key that is not known here is refused, since Swarm would leave it out without a word.
Standard library only.
"""

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from types import MappingProxyType
from typing import Any

from slipway.commands import ROOT, deploy
from slipway.commands.shared import atomic, compose, dotenv, inventory, lock, registry
from slipway.commands.shared.stop import Stop

Json = dict[str, Any]

TO = ROOT / "deploy/swarm"
DEPLOY = "docker stack deploy --detach=false --resolve-image changed --with-registry-auth --compose-file deploy/swarm/"
OWN_USER = "10001:10001"  # of docker/service.Dockerfile
DATABASE = "node.labels.slipway.database == true"  # the one node that keeps data
# Swarm replaces what is unhealthy. So this asks what the proxy asks: a replica that was ready once stays healthy while
# the database is away for all of them, and is replaced where it alone lacks it.
PROBE = ["CMD", "python", "-I", "-S", "/app/slipway/chassis/src/chassis/process/probe.py", "/health/ready?for=traffic"]
HEALTH = {"test": PROBE, "interval": "10s", "timeout": "3s", "start_period": "60s", "start_interval": "250ms"}
# Five minutes: on the first deploy, the jobs start while the database is still being pulled.
AGAIN = {"condition": "on-failure", "delay": "10s", "max_attempts": 30}
BACK = {"failure_action": "rollback"}  # a new task that fails takes the service back by itself

# Said in the same words, below which Swarm itself refuses what it doesn't know.
SAME = {
    "cap_add", "cap_drop", "command", "entrypoint", "extra_hosts", "healthcheck", "hostname", "init", "labels",
    "logging", "read_only", "stop_grace_period", "stop_signal", "sysctls", "ulimits", "user", "working_dir",
}  # fmt: skip
# Images are pulled; jobs run before, and everything else waits for what it needs by itself. Links become aliases.
NEEDLESS = {"build", "depends_on", "external_links", "profiles"}
# Options of a tmpfs that each of Swarm's has. It has no owner either: its mode is 1777.
HARMLESS = {"", "noexec", "nosuid", "nodev"}


def stack(tag: str = "") -> None:
    """Writes the files for this commit's release, or that of `tag`, and prints what they lack, and what to do next."""
    if not dotenv.get("IMAGE_PREFIX"):
        raise Stop("IMAGE_PREFIX is not set: name the registry that the nodes pull from, see docs/swarm.md")
    if not tag and re.search("dirty|unversioned", os.environ.get("VERSION", "unversioned")):
        raise Stop("this tree is not committed, and so no registry has its images: commit it, or name a release, TAG=…")
    with lock.production():
        deploy.check()
        release = deploy.chosen(tag)
        config = compose.expect(deploy.compose("config", "--format", "json", tag=release), "compose has an error")
        made = Stack(json.loads(config), release, registry.noted())
        TO.mkdir(parents=True, exist_ok=True)
        for name, content in (("before", made.file(True)), ("stack", made.file(False))):
            atomic.write(path := TO / f"{name}.yaml", json.dumps(content, indent=2) + "\n")
            path.chmod(0o600)  # it has the settings of .env
            print(f"{path.relative_to(ROOT)}: {', '.join(content['services'])}")
    for note, names in made.notes.items():
        print(f"  {note} ({', '.join(names)})")
    print(f"To roll out {release}, where docker reaches a manager; to go back, the second with a former TAG:")
    print(f"  {DEPLOY}before.yaml {made.project}\n  {DEPLOY}stack.yaml {made.project}")


class Stack:
    """The translation of a project's configuration, for one release. Raises Stop."""

    def __init__(self, config: Json, release: str, noted: Mapping[str, str] = MappingProxyType({})) -> None:
        self.config, self.release, self.project, self.noted = config, release, config["name"], noted
        self.notes: dict[str, dict[str, None]] = {}  # what a stack can't say, and the services that it would be said of
        self.configs: Json = {}
        # With a driver or options of its own, a volume is where those say, such as on a server that all nodes reach.
        volumes = config.get("volumes", {})
        self.shared = {name for name, each in volumes.items() if {"driver", "driver_opts"} & (each or {}).keys()}
        self.pairs = {name: each for each in inventory.all() if each.serves for name in each.replicas}
        # Of a way out, the names of hosts that lead to it, in the networks of the service that it is for.
        self.ways_out: dict[str, dict[str, set[str]]] = {}
        translated = {name: each for name, each in config["services"].items() if self.is_translated(name, each)}
        for each in translated.values():
            for way, _, host in (link.partition(":") for link in each.get("external_links") or []):
                for network in each["networks"].keys() & config["services"][way]["networks"].keys():
                    self.ways_out.setdefault(way, {}).setdefault(network, set()).add(host)
        self.services = {name: self.service(name, each) for name, each in translated.items()}

    def file(self, before: bool) -> Json:
        """The services that come first, or else the others, with all that any of them refers to."""
        others = {
            kind: {
                name: make(name, each or {})
                for name, each in self.config.get(kind, {}).items()
                if name not in ("grafana", "listener")
            }
            for kind, make in (("networks", self.network), ("volumes", self.volume), ("secrets", self.secret))
        }
        services = {name: each for name, each in self.services.items() if self.is_before(name) is before}
        return {"services": services, **others, "configs": self.configs}

    def is_translated(self, name: str, given: Json) -> bool:
        if observes := not {"grafana", "observe"}.isdisjoint(given.get("profiles", [])):
            self.note("left out: they watch one server, and a swarm has a Prometheus of its own", name)
        return name != "listener" and not observes

    def is_before(self, name: str) -> bool:
        """A way out, too: jobs may need it."""
        rules = self.services[name]["deploy"]
        keeps = DATABASE in rules.get("placement", {}).get("constraints", [])
        return keeps or rules["mode"].endswith("-job") or name in self.ways_out

    def note(self, text: str, name: str) -> None:
        self.notes.setdefault(text, {})[name] = None

    def service(self, name: str, given: Json) -> Json:
        """A service, key by key, and what Swarm decides about it."""
        given = {key: value for key, value in given.items() if value is not None}
        if is_proxy(given) and name == "proxy" and (listener := self.config["services"].get("listener")):
            # Swarm replaces one node's proxy after the other's, so each opens its ports itself.
            networks = {network: {"aliases": ["listener"]} for network in listener["networks"]}
            given |= {"ports": listener["ports"], "networks": given["networks"] | networks}
        if names := self.ways_out.get(name):
            given = self.way_out(given, names)
        made: Json = {"deploy": {"endpoint_mode": "dnsrr"}}
        merge(made, self.rules(name, given))
        own = given.pop("deploy", {})
        only(SAME | NEEDLESS | TRANSLATED.keys(), given, name)
        for key, value in given.items():
            if key in SAME:
                merge(made, {key: value})
            elif key in TRANSLATED:
                merge(made, TRANSLATED[key](self, name, value, given))
        merge(made["deploy"], own)  # a fork's own has the last word
        return made

    def way_out(self, given: Json, names: dict[str, set[str]]) -> Json:
        """Known by the names of its hosts in a network, itself included, and so in need of another resolver."""
        if not (resolver := dotenv.get("EGRESS_DNS")):
            raise Stop(
                "EGRESS_DNS is not set: name the DNS server that the ways out ask, such as EGRESS_DNS=192.0.2.53:53"
            )
        aliases = {network: {"aliases": sorted(hosts)} for network, hosts in names.items()}
        environment = given.get("environment", {}) | {"EGRESS_DNS": resolver}
        return given | {"networks": given["networks"] | aliases, "environment": environment}

    def rules(self, name: str, given: Json) -> Json:
        """Where it runs, how it is replaced, and what counts as healthy."""
        volumes = [each for each in given.get("volumes", []) if each["type"] != "tmpfs" and not each.get("read_only")]
        writes = {each.get("source", "") for each in volumes} - self.shared
        if given.get("restart") == "no":
            # Each node's own proxy serves static files, so each needs them.
            mode = "global-job" if "static" in writes else "replicated-job"
            return {"deploy": {"mode": mode, "restart_policy": AGAIN}}
        if is_proxy(given):
            return {"deploy": {"mode": "global", **replaced("stop-first")}}
        pair = self.pairs.get(name)
        found: Json = {
            "deploy": {
                "mode": "replicated",
                **replaced("start-first" if pair or name in self.ways_out else "stop-first"),
            }
        }
        if pair:
            found["healthcheck"] = HEALTH
        if writes - {"static"}:
            self.note("stays on the node with the label slipway.database=true, which keeps its data", name)
            found["deploy"]["placement"] = {"constraints": [DATABASE]}
            if not pair:  # Postgres in recovery must not be ended
                given["healthcheck"] = {"disable": True}
        elif pair:
            found["ports"] = [self.apart(pair)]
        return found

    def apart(self, pair: inventory.Service) -> Json:
        """A port that neither replica uses, and none of their networks lets in: Swarm puts no two services with the
        same port of the host on one node, and has no other way to keep a pair apart."""
        port = 20000 + zlib.crc32(f"{self.project} {pair.name}".encode()) % 10000
        return {"target": 9, "published": port, "protocol": "udp", "mode": "host"}

    def image(self, name: str, value: str, given: Json) -> Json:
        """With the digest that a push or a pull has noted. The proxy's is the one with its configuration in it; by its
        digest alone, so that a release with the same proxy does not replace it."""
        image = f"{value.rpartition(':')[0]}:{self.release}" if is_proxy(given) else value
        if bytes_of := self.noted.get(image):
            image = f"{image.rpartition(':')[0] if is_proxy(given) else image}@{bytes_of}"
        return {"image": image}

    def environment(self, name: str, value: Json, given: Json) -> Json:
        return {"environment": {key: each for key, each in value.items() if each is not None}}

    def restart(self, name: str, value: str, given: Json) -> Json:
        if value not in ("no", "always", "unless-stopped"):
            raise Stop(f"{name}: `restart: {value}` has no translation for Swarm")
        return {} if value == "no" else {"deploy": {"restart_policy": {"condition": "any", "delay": "1s"}}}

    def no_new_privileges(self, name: str, value: list[str], given: Json) -> Json:
        if value != ["no-new-privileges:true"]:
            raise Stop(f"{name}: `security_opt: {value}` has no translation for Swarm")
        self.note('each node\'s /etc/docker/daemon.json has to have "no-new-privileges": true', name)
        return {}

    def attachments(self, name: str, value: Json, given: Json) -> Json:
        for network, options in value.items():
            only({"aliases"}, options or {}, f"{name}: networks.{network}")
        return {"networks": value}

    def ports(self, name: str, value: list[Json], given: Json) -> Json:
        if any(each.get("host_ip") for each in value):
            self.note("its ports are open on every address of its nodes, whatever PUBLISH_ADDRESS says", name)
        kept = ("target", "published", "protocol")
        for each in value:
            only({*kept, "mode", "host_ip"}, each, f"{name}: ports")
        return {
            "ports": [
                {key: int(each[key]) if key == "published" else each[key] for key in kept} | {"mode": "host"}
                for each in value
            ]
        }

    def secrets(self, name: str, value: list[Json], given: Json) -> Json:
        """Owned by the service's user, and for no other."""
        uid, _, gid = given.get("user", OWN_USER).partition(":")
        return {
            "secrets": [
                {"source": each["source"], "target": each["target"], "uid": uid, "gid": gid or uid, "mode": 0o400}
                for each in value
            ]
        }

    def mounts(self, name: str, value: list[Json], given: Json) -> Json:
        made: Json = {"volumes": [], "configs": []}
        for each in value:
            kind, source = each["type"], each.get("source", "")
            only({"type", "source", "target", "read_only", kind}, each, f"{name}: volumes")
            only({"create_host_path"}, each.get(kind, {}), f"{name}: volumes")
            if kind == "bind" and each.get("read_only") and Path(source).is_relative_to(ROOT):
                if not is_proxy(given):  # its image has them
                    made["configs"] += self.files(Path(source), each["target"])
            elif source != "listener":
                made["volumes"].append({key: part for key, part in each.items() if key != kind})
                if kind == "bind":
                    self.note(f"{source} has to be there on its nodes", name)
        return made

    def files(self, source: Path, target: str) -> list[Json]:
        """A config for a file, or for each that lies directly in a folder, named by its contents: none is changed."""
        places = {source: target}
        if source.is_dir():
            places = {path: f"{target}/{path.name}" for path in sorted(source.iterdir()) if path.is_file()}
        found = []
        for path, place in places.items():
            if "Dockerfile" in path.name:  # for builds alone, and an edit of it would restart the database
                continue
            key = f"{digest(path)}-{path.name}"
            name = f"{self.project}_{key}"[:64].rstrip("-._")  # Swarm's longest
            self.configs[key] = {"name": name, "file": os.path.relpath(path, TO)}
            found.append({"source": key, "target": place, "mode": 0o555 if os.access(path, os.X_OK) else 0o444})
        return found

    def tmpfs(self, name: str, value: list[str], given: Json) -> Json:
        made = []
        for each in value:
            target, _, options = each.partition(":")
            words = dict(word.partition("=")[::2] for word in options.split(",") if word not in HARMLESS)
            only({"size", "uid", "gid"}, words, f"{name}: tmpfs {target}")
            made.append(in_memory(target, words.get("size")))
        return {"volumes": made}

    def network(self, name: str, given: Json) -> Json:
        said = {key: value for key, value in given.items() if value}
        only({"name", "internal", "enable_ipv6"}, said, f"networks.{name}")
        if given.get("enable_ipv6"):
            self.note(
                "a network between nodes has no IPv6: the app sees the addresses of clients over IPv4",
                f"network {name}",
            )
        return {"driver": "overlay", "internal": given.get("internal", False)}

    def volume(self, name: str, given: Json) -> Json:
        return {key: value for key, value in given.items() if key != "name"}  # others Swarm knows, or refuses

    def secret(self, name: str, given: Json) -> Json:
        """Named by its contents, too: a secret of Swarm's can't be changed, and what uses another one is replaced."""
        if "file" not in given:
            raise Stop(f"secrets.{name} is no file: Swarm can't be given it")
        path = Path(given["file"])
        return {"name": f"{self.project}_{name}-{digest(path)}", "file": os.path.relpath(path, TO)}


TRANSLATED: dict[str, Callable[[Stack, str, Any, Json], Json]] = {
    "cpus":         lambda *said: limit(cpus=str(said[2])),
    "dns_opt":      lambda *said: {"environment": {"RES_OPTIONS": " ".join(said[2])}},
    "environment":  Stack.environment,
    "image":        Stack.image,
    "mem_limit":    lambda *said: limit(memory=str(said[2])),
    "networks":     Stack.attachments,
    "pids_limit":   lambda *said: limit(pids=said[2]),
    "ports":        Stack.ports,
    "restart":      Stack.restart,
    "secrets":      Stack.secrets,
    "security_opt": Stack.no_new_privileges,
    "shm_size":     lambda *said: {"volumes": [in_memory("/dev/shm", said[2])]},  # noqa: S108
    "tmpfs":        Stack.tmpfs,
    "volumes":      Stack.mounts,
}  # fmt: skip


def only(known: Set[str], given: Json, where: str) -> None:
    """Raises Stop for a key that isn't known."""
    if extra := given.keys() - known:
        raise Stop(f"{where}: `{min(extra)}` has no translation for Swarm; docs/swarm.md says what has one")


def is_proxy(given: Json) -> bool:
    """Whether it is of an image from docker/proxy."""
    return Path(given.get("build", {}).get("context", "/")).parent == ROOT / "docker/proxy"


def replaced(order: str) -> Json:
    return {"update_config": {"order": order, **BACK}, "rollback_config": {"order": order}}


def limit(**values: Any) -> Json:
    return {"deploy": {"resources": {"limits": values}}}


def in_memory(target: str, size: str | None) -> Json:
    return {"type": "tmpfs", "target": target, **({"tmpfs": {"size": in_bytes(size)}} if size else {})}


def in_bytes(size: str) -> int:
    unit = size[-1].lower()
    return int(size[:-1]) << " kmg".index(unit) * 10 if unit in "kmg" else int(size)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def merge(into: Json, other: Json) -> None:
    """Adds what the other has: lists grow, and of two values the other's counts."""
    for key, value in other.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        elif isinstance(value, list) and isinstance(into.get(key), list):
            into[key] = into[key] + value
        else:
            into[key] = json.loads(json.dumps(value))
