"""The proxy's configuration: whether it is valid, and having the proxy load it. Standard library only."""

from slipway.commands.shared.compose import compose

CONFIG = ("--config", "/etc/caddy/Caddyfile")


def problem() -> str | None:
    """Why the Caddyfile on the disk can't be used, in one sentence; None if it can. If no proxy runs, a container is
    started to check it."""
    running = compose("ps", "--quiet", "--status", "running", "proxy").stdout.strip()
    where = ["exec", "-T"] if running else ["run", "--rm", "--no-deps", "-T"]
    return caddy(*where, "proxy", "caddy", "validate", *CONFIG)


def reload() -> str | None:
    """Has the proxy load the Caddyfile on the disk; returns the reason if the proxy keeps its former configuration."""
    return caddy("exec", "-T", "proxy", "caddy", "reload", *CONFIG)


def caddy(*arguments: str) -> str | None:
    run = compose(*arguments)
    return reason(run.stderr) if run.returncode else None


def reason(said: str) -> str:
    """The one sentence in what Caddy, or compose, logged."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("{")]
    return lines[-1].removeprefix("Error: ") if lines else "no error message"
