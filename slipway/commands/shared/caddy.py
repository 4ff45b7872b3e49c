"""`make proxy-reload`: the proxy takes up its edited configuration, or keeps its own and says why.

Standard library only, as all that runs on a server.
"""

import subprocess
import sys

from slipway.commands import ROOT

CONFIG = ("--config", "/etc/caddy/Caddyfile")


def main() -> None:
    if problem := reload():
        sys.exit(f"make proxy-reload: nothing has changed: {problem}")
    print("The proxy serves with docker/proxy/caddy/Caddyfile as it is now.")


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


def compose(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["docker", "compose", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def reason(said: str) -> str:
    """Caddy's one sentence, or compose's, out of what it logged."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("{")]
    return lines[-1].removeprefix("Error: ") if lines else "no error message"


if __name__ == "__main__":
    main()
