"""`make dev`: the hot-reload stack, in containers where an engine answers, else natively.

Standard library only: with Docker, nothing needs to be installed on the machine.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import engine
import environment

ROOT = Path(__file__).parents[1]
COMPOSE = ["docker", "compose", "--file", "compose/base.yaml", "--file", "compose/dev.yaml"]
if (ROOT / ".env").exists():  # it lies beside compose.yaml, where compose does not look for it
    COMPOSE += ["--env-file", ".env"]


def main() -> None:
    port = dev_port()
    os.environ["DEV_PORT"] = str(port)
    why = "it was asked for" if os.environ.get("DOCKER") == "no" else engine.problem()
    if why:
        print(f"Running natively, on an embedded Postgres: {why}.", flush=True)
        refuse_taken(port)
        native = [str(ROOT / ".venv/bin/python"), "tools/native.py"]
        sys.exit(subprocess.call(["make", "--no-print-directory", ".venv/installed"], cwd=ROOT) or become(native))
    if not runs("web"):
        refuse_taken(port)
    if missing := engine.images_problem():
        sys.exit(f"make dev: {missing}.")
    os.environ |= {"DEV_UID": str(os.getuid()), "DEV_GID": str(os.getgid())}
    become([*COMPOSE, "up", "--build", "--no-attach", "db"])


def dev_port() -> int:
    text = environment.get("DEV_PORT", "8000")
    if not text.isdigit() or not 0 < int(text) < 65536:
        sys.exit(f"make dev: DEV_PORT must be a port from 1 to 65535, not {text!r}.")
    return int(text)


def refuse_taken(port: int) -> None:
    """One line now instead of a stack that fails half-way up."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            sys.exit(
                f"make dev: cannot use port {port}: {error.strerror.lower()}. "
                f"Stop what listens there, or take another: make dev DEV_PORT={port + 1}"
            )


def runs(service: str) -> bool:
    """Whether our own stack is up already, and so is what holds the port."""
    return bool(engine.run(*COMPOSE, "ps", "--quiet", service).stdout.strip())


def become(command: list[str]) -> None:
    """Ctrl-C then goes straight to the command."""
    os.chdir(ROOT)
    os.execvp(command[0], command)  # noqa: S606 - a list of our own, no shell


if __name__ == "__main__":
    main()
