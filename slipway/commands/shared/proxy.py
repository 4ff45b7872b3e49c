"""The proxy that `.env` names: its configuration, having it load that, and replacing it. Standard library only."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from slipway.commands.shared import dotenv
from slipway.commands.shared.compose import build_problem, compose, docker, last_line, parse
from slipway.commands.shared.stop import Stop


class Kind(NamedTuple):
    """What differs: where the configuration is, and the compose services that this proxy needs beside it."""

    config: str
    helpers: tuple[str, ...]


class Container(NamedTuple):
    service: str
    id: str
    image: str
    healthy: bool
    set_up: bool  # with the settings that compose would give it now
    current: bool  # and with the image as well


SETTLE = 1.0  # seconds in which a connection that is being made gets its first request

KINDS = {
    "caddy": Kind("docker/proxy/caddy/Caddyfile", ()),
    "nginx": Kind("docker/proxy/nginx", ("certificates",)),
}


def name() -> str:
    """What PROXY says. Raises Stop if it is no proxy."""
    if (found := dotenv.get("PROXY", "caddy")) not in KINDS:
        raise Stop(f"PROXY must be {' or '.join(KINDS)}, not {found!r}")
    return found


def kind() -> Kind:
    return KINDS[name()]


def script(proxy: str) -> str:
    """The program in the container that starts it, and looks at its configuration when given a verb."""
    return f"/opt/slipway/proxy/{proxy}.sh"


def runs() -> str | None:
    """The proxy that runs, whatever `.env` says; None if there is none."""
    return kind_of(compose("ps", "--status", "running", "--format", "{{.Image}}", "proxy").stdout)


def kind_of(image: str) -> str | None:
    return next((each for each in KINDS if f"proxy:{each}-" in image), None)


def outdated() -> bool:
    """Whether Caddy's image has other modules than CADDY_PLUGINS names."""
    if name() != "caddy":
        return False
    image = next((each for each in compose("config", "--images", "proxy").stdout.split() if kind_of(each)), "")
    label = docker("image", "inspect", "--format", '{{index .Config.Labels "slipway.plugins"}}', image)
    return label.stdout.strip() != dotenv.get("CADDY_PLUGINS")


def build() -> str | None:
    """Builds the proxy's image, and returns the reason, one line, if that fails. What serves is not touched."""
    run = compose("build", "proxy")
    return build_problem(run.stdout + run.stderr, 1) if run.returncode else None


def problem() -> str | None:
    """Why the configuration on the disk can't be used, in one sentence; None if it can. If the proxy does not run, or
    has another image or other settings than the next one will have, a container is started to check it."""
    serves = runs() == name() and [each.current for each in containers() if each.service == "proxy"] == [True]
    where = ["exec", "-T"] if serves else ["run", "--rm", "--no-deps", "-T"]
    return ask(*where, "proxy", script(name()), "check")


def update() -> str | None:
    """Has the proxy serve what is on the disk, without a gap. Returns the reason if that can't be: what served serves
    on. Whether the configuration is valid has to be asked before."""
    there = containers()
    listeners, proxies = ([each for each in there if each.service == name] for name in ("listener", "proxy"))
    if not listeners:  # before there was one, the proxy itself held the ports
        compose("rm", "--stop", "--force", "proxy")
    # A listener that is replaced cuts every connection: only other ports are a reason.
    needed = [] if any(each.set_up and each.healthy for each in listeners) else ["listener"]
    if needed := [*needed, *kind().helpers]:
        run = compose("up", "--detach", "--no-deps", "--wait", *needed)
        if run.returncode:
            return last_line(run.stderr)
    problem = load() if [each.current for each in proxies] == [True] else replace()
    if not problem and {kind_of(each.image) for each in proxies} - {name()}:  # removes what only the other proxy needs
        compose("up", "--detach", "--no-deps", "--no-recreate", "--remove-orphans", "listener")
    return problem


def load() -> str | None:
    """Has a proxy that is otherwise as it should be use the configuration on the disk."""
    if name() == "nginx":
        return ask("exec", "-T", "proxy", script("nginx"), "reload")
    both = compose("exec", "-T", "proxy", script("caddy"), "both").stdout.splitlines()
    if [parse(each) for each in both[1:]] == [parse(each) for each in both[:1]] != []:
        return None
    return replace(again=True)  # Caddy's own reload cuts connections that have asked for nothing yet


def replace(again: bool = False) -> str | None:
    """Puts a proxy with the image and the settings of now in the place of one that has others; with `again`, of any. It
    serves beside the former one, which then completes the requests that it has. Returns the reason if it does not
    start: the former one serves on. What an interrupted replacement has left is completed."""
    former = [each for each in containers() if each.service == "proxy"]
    if former and former[-1].current and not again:
        former.pop()  # it is the new one already, and the listener's newest
    for each in former:
        if not each.healthy:
            docker("rm", "--force", each.id)
    former = [each for each in former if each.healthy]
    limit = dotenv.get("DEPLOY_TIMEOUT", "60")
    beside = ("--no-recreate", "--scale", f"proxy={len(former) + 1}", "--wait", "--wait-timeout", limit)
    started = compose("up", "--detach", "--no-deps", *beside, "proxy")
    if started.returncode:
        return undo(former) or last_line(started.stderr)
    if former:
        hand_over(former)
    for each in former:
        docker("stop", each.id)
        docker("rm", each.id)
    return None


def hand_over(former: list[Container]) -> None:
    """Has new connections go to the newest proxy alone. nginx is told to end first: it then accepts no more, where it
    would otherwise try without end. Caddy is told a second later: it would not answer a first request after that."""
    nginx = [each for each in former if kind_of(each.image) == "nginx"]
    for each in nginx:
        docker("kill", "--signal", "QUIT", each.id)
    compose("exec", "-T", "listener", "sh", "-c", "kill -USR1 1")
    if nginx != former:
        time.sleep(SETTLE)


def undo(former: list[Container]) -> str | None:
    """Removes the proxies beside the former ones, if there are any; returns what one of them has said in the end."""
    said = None
    for each in containers():
        if each.service == "proxy" and each.id not in [other.id for other in former]:
            said = last_words(each.id)
            if former:
                docker("rm", "--force", each.id)
    return said


def last_words(container: str) -> str | None:
    lines = docker("logs", "--tail", "1", container).stderr.strip()
    entry = parse(lines)
    return entry.get("error") or entry.get("message") or entry.get("msg") or lines or None


def containers() -> list[Container]:
    """Of the listener and the proxy, running or not, the one that was started last at the end."""
    ids = compose("ps", "--all", "--quiet", "listener", "proxy").stdout.split()
    if not ids:
        return []
    hashes = dict(line.split() for line in compose("config", "--hash", "listener,proxy").stdout.splitlines())
    found = json.loads(docker("inspect", *ids).stdout)
    return [container(each, hashes) for each in sorted(found, key=lambda each: each["State"]["StartedAt"])]


def container(found: dict[str, Any], hashes: dict[str, str]) -> Container:
    config, labels = found["Config"], found["Config"]["Labels"]
    service = labels["com.docker.compose.service"]
    healthy = found["State"].get("Health", {}).get("Status") == "healthy"
    set_up = labels["com.docker.compose.config-hash"] == hashes[service]
    # A newer Python is no reason for a new listener.
    image = docker("image", "inspect", "--format", "{{.Id}}", config["Image"]).stdout if service == "proxy" else ""
    current = set_up and found["Image"] == image.strip()
    return Container(service, found["Id"], config["Image"], healthy, set_up, current)


@contextmanager
def without(replica: str) -> Iterator[None]:
    """Takes a replica out while it is replaced. Caddy asks each replica by itself whether it wants requests; nginx is
    told, and forgets it when it restarts. If the replacement fails, the replica stays out."""
    told = runs() == "nginx"
    if told:
        ask("exec", "-T", "proxy", script("nginx"), "without", replica)
    yield
    if told:
        ask("exec", "-T", "proxy", script("nginx"), "with", replica)


def ask(*arguments: str) -> str | None:
    run = compose(*arguments)
    return reason(run.stderr) if run.returncode else None


def reason(said: str) -> str:
    """The one sentence in what the proxy, or compose, logged."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("{")]
    return lines[-1].removeprefix("Error: ") if lines else "no error message"
