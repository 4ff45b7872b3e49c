"""`make proxy-reload`: the proxy takes up its edited configuration, or keeps its own and says why.

Standard library only, as all that runs on a server.
"""

import subprocess
import sys
from pathlib import Path

import engine

ROOT = Path(__file__).parents[1]


def main() -> None:
    reload = ["caddy", "reload", "--config", "/etc/caddy/Caddyfile"]
    run = subprocess.run(
        ["docker", "compose", "exec", "-T", "proxy", *reload], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if run.returncode:
        sys.exit(f"make proxy-reload: nothing has changed: {reason(run.stderr)}")
    print("The proxy serves with docker/proxy/Caddyfile as it is now.")


def problem() -> str | None:
    """Why docker/proxy/Caddyfile can't be used, as the running proxy judges; None if it can."""
    run = engine.run(
        "docker", "compose", "exec", "-T", "proxy", "caddy", "validate", "--config", "/etc/caddy/Caddyfile"
    )  # fmt: skip
    return reason(run.stderr) if run.returncode else None


def reason(said: str) -> str:
    """Caddy's one sentence, or compose's, out of what it logged."""
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("{")]
    return lines[-1].removeprefix("Error: ") if lines else "no word why"


if __name__ == "__main__":
    main()
