"""The container engine and its base images: one line on what to do if something is missing.

Standard library only.
"""

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from slipway.commands import ROOT
from slipway.commands.shared import dotenv, egress
from slipway.commands.shared.stop import Stop

TIMEOUT = 60  # seconds; an engine whose disk is busy takes long to answer, and a restart would not help
SHORT_TIMEOUT = 8  # seconds, for commands that can go on without an engine
NOTICE = 3  # seconds after which the wait is explained
PROXY = "docker/proxy/{}/Dockerfile"
NET = Path("/proc/net")  # of Linux
COMPOSE = (2, 24)  # `env_file: required: false` and include with several paths


class NoAnswer(Stop):
    """The engine is there but does not answer."""

    def __init__(self, timeout: float | None = None) -> None:
        super().__init__(f"the container engine did not answer within {timeout or TIMEOUT} s: restart Docker")


def problem(timeout: float | None = None) -> str | None:
    """Why there is no usable engine, in one line; None if there is one. A busy engine is given TIMEOUT to answer."""
    if not shutil.which("docker"):
        return "Docker is not installed: see https://docs.docker.com/engine/install"
    waiting = threading.Timer(NOTICE, print, ["Waiting for the container engine to answer …"], {"file": sys.stderr})
    waiting.daemon = True
    waiting.start()
    try:
        # Not `docker info`: it waits for a lock that the engine holds while it deletes or stores an image.
        server = run("docker", "version", "--format", "{{.Server.Version}}", timeout=timeout)
    except NoAnswer as silence:
        return str(silence)
    finally:
        waiting.cancel()
    if server.returncode:
        if "permission denied" in server.stderr:
            return "this user may not talk to the container engine: add it to the group docker, or use sudo"
        return "no container engine answers: start Docker"
    return compose_problem()


def compose_problem() -> str | None:
    version = run("docker", "compose", "version", "--short").stdout.strip().lstrip("v")
    numbers = tuple(int(part) for part in version.split("-")[0].split("+")[0].split(".")[:2] if part.isdigit())
    if not numbers:
        return "Docker Compose is missing: install the package docker-compose-plugin"
    if numbers < COMPOSE:
        return f"Docker Compose {version} is too old: {COMPOSE[0]}.{COMPOSE[1]} or later is needed"
    return None


def has_ipv6() -> bool:
    """Whether it can create an IPv6 network: since 27 it assigns addresses by itself, if the kernel has IPv6."""
    if os.environ.get("DOCKER") == "no" or (NET.exists() and not (NET / "if_inet6").exists()):
        return False
    if problem(min(TIMEOUT, SHORT_TIMEOUT)):
        return False
    major = run("docker", "version", "--format", "{{.Server.Version}}").stdout.partition(".")[0]
    return major.isdigit() and int(major) >= 27


def bases() -> list[str]:
    """The official images that everything is based on, as the Dockerfiles and compose files name them."""
    python = found(r"^ARG PYTHON=(\S+)", "docker/service.Dockerfile")
    proxy = PROXY.format(dotenv.get("PROXY", "caddy"))
    if not (ROOT / proxy).exists():
        raise Stop(f"there is no {proxy}: PROXY names caddy or nginx")
    postgres = dotenv.get("POSTGRES_MAJOR", found(r"POSTGRES_MAJOR:-(\d+)", "compose/base.yaml"))
    outside = [found(r"\}(haproxy:\S+)", "slipway/compose/service.yaml")] if egress.names() else []
    return [f"python:{python}-slim-trixie", f"postgres:{postgres}-trixie", found(r"\}((?!python)\S+)", proxy), *outside]


def found(pattern: str, path: str) -> str:
    first: str = re.findall(pattern, (ROOT / path).read_text(), re.MULTILINE)[0]
    return first


def images_problem() -> str | None:
    """Pulls the base images that are missing here; returns one line about the first that can't be pulled."""
    for name in bases():
        image = dotenv.get("REGISTRY") + name
        if run("docker", "image", "inspect", image).returncode == 0:
            continue
        print(f"Pulling {image} …", flush=True)
        if subprocess.run(["docker", "pull", "--quiet", image], capture_output=True, check=False).returncode:
            return f"{image} is not here and can't be pulled: `make bases` builds it, REGISTRY=mirror/ names a mirror"
    return None


def run(*command: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a query against the engine. Raises NoAnswer if it takes longer than `timeout`, or TIMEOUT without one."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout or TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise NoAnswer(timeout) from None
