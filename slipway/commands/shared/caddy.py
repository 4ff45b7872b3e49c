"""The proxy's configuration: whether it can be used, and having the proxy take it up. Standard library only."""

from slipway.commands.shared.compose import compose

CONFIG = ("--config", "/etc/caddy/Caddyfile")


def problem() -> str | None:
    """Why the Caddyfile on the disk can't be used, in one sentence; None where it can. With no proxy that runs, in one
    that is made for the question."""
    running = compose("ps", "--quiet", "--status", "running", "proxy").stdout.strip()
    where = ["exec", "-T"] if running else ["run", "--rm", "--no-deps", "-T"]
    return caddy(*where, "proxy", "caddy", "validate", *CONFIG)


def reload() -> str | None:
    """Has the proxy take up the Caddyfile on the disk; why it goes on as before where it does."""
    return caddy("exec", "-T", "proxy", "caddy", "reload", *CONFIG)


def caddy(*arguments: str) -> str | None:
    run = compose(*arguments)
    return reason(run.stderr) if run.returncode else None


def reason(said: str) -> str:
    """Caddy's one sentence, or compose's, out of what it logged."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("{")]
    return lines[-1].removeprefix("Error: ") if lines else "no error message"
