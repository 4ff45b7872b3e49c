"""The proxy that `.env` names, its configuration, and having it load that. Standard library only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from slipway.commands.shared import dotenv
from slipway.commands.shared.compose import compose
from slipway.commands.shared.stop import Stop


class Kind(NamedTuple):
    """What differs: where the configuration is, and the commands, in the container, that check and load it."""

    config: str
    services: tuple[str, ...]  # of compose
    check: tuple[str, ...]
    load: tuple[str, ...]


CADDYFILE = ("--config", "/etc/caddy/Caddyfile")
NGINX = "/opt/slipway/proxy/nginx.sh"
KINDS = {
    "caddy": Kind("docker/proxy/caddy/Caddyfile", ("proxy",),
                  ("caddy", "validate", *CADDYFILE), ("caddy", "reload", *CADDYFILE)),
    "nginx": Kind("docker/proxy/nginx", ("certificates", "proxy"), (NGINX, "check"), (NGINX, "reload")),
}  # fmt: skip


def name() -> str:
    """What PROXY says. Raises Stop if it is no proxy."""
    if (found := dotenv.get("PROXY", "caddy")) not in KINDS:
        raise Stop(f"PROXY must be {' or '.join(KINDS)}, not {found!r}")
    return found


def kind() -> Kind:
    return KINDS[name()]


def runs() -> str | None:
    """The proxy that runs, whatever `.env` says; None if there is none."""
    image = compose("ps", "--status", "running", "--format", "{{.Image}}", "proxy").stdout.strip()
    return next((each for each in KINDS if f"proxy:{each}-" in image), None)


def problem() -> str | None:
    """Why the configuration on the disk can't be used, in one sentence; None if it can. If the proxy does not run, a
    container is started to check it."""
    where = ["exec", "-T"] if runs() == name() else ["run", "--rm", "--no-deps", "-T"]
    return ask(*where, "proxy", *kind().check)


def reload() -> str | None:
    """Has the proxy load the configuration on the disk; returns the reason if it keeps its former one."""
    return ask("exec", "-T", "proxy", *kind().load)


@contextmanager
def without(replica: str) -> Iterator[None]:
    """Takes a replica out while it is replaced. Caddy asks each replica by itself whether it wants requests; nginx is
    told, and forgets it when it restarts. If the replacement fails, the replica stays out."""
    told = runs() == "nginx"
    if told:
        ask("exec", "-T", "proxy", NGINX, "without", replica)
    yield
    if told:
        ask("exec", "-T", "proxy", NGINX, "with", replica)


def ask(*arguments: str) -> str | None:
    run = compose(*arguments)
    return reason(run.stderr) if run.returncode else None


def reason(said: str) -> str:
    """The one sentence in what the proxy, or compose, logged."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("{")]
    return lines[-1].removeprefix("Error: ") if lines else "no error message"
