"""`make bench-first-run`: from `git clone` to the first page, and a second start, natively and in containers.

The base images are present. Natively, it measures with and without the packages in uv's cache; in containers, with
and without the image's layers in the builder's cache. Prints seconds; leaves nothing behind.
"""

import os
import signal
import subprocess
import tempfile
from pathlib import Path
from time import monotonic

import httpx

from slipway.proofs.harness import ROOT, Stack, free_port, unique, wait_until
from slipway.proofs.needs import engine_problem

TIMEOUT = 900  # seconds


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if a shell has started this in the background
    print(f"{'':8} {'caches':8} {'first':>7} {'second':>7}   s from `make dev` to the page", flush=True)
    for kind in ["native"] if engine_problem() else ["native", "docker"]:
        for caches in ("full", "empty"):
            with tempfile.TemporaryDirectory(prefix="bench-") as directory:
                first, second = measure(Path(directory), kind, caches == "empty")
            print(f"{kind:8} {caches:8} {first:7.1f} {second:7.1f}", flush=True)


def measure(directory: Path, kind: str, empty: bool) -> tuple[float, float]:
    tree = directory / "tree"
    begun = monotonic()
    subprocess.run(["git", "clone", "--quiet", ROOT, tree], check=True)
    settings = {"DEV_PORT": free_port()} | ({"DOCKER": "no"} if kind == "native" else {})
    if empty:
        settings["UV_CACHE_DIR"] = directory / "uv"
    stack = Stack(tree, unique("first"), **settings)
    try:
        if empty and kind == "docker":
            build = ["docker", "build", "--no-cache", "--target", "dev", "--build-arg", "SERVICE=web"]
            stack.run(*build, "--file", "docker/service.Dockerfile", ".")
        first = to_the_page(stack) - begun
        begun = monotonic()
        return first, to_the_page(stack) - begun
    finally:
        stack.destroy()


def to_the_page(stack: Stack) -> float:
    """The time at which `make dev` served the first page; it is then stopped."""
    with (stack.directory / "dev.log").open("w") as log:
        process = subprocess.Popen(
            ["make", "dev"], cwd=stack.directory, env=stack.environment, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://localhost:{stack.environment['DEV_PORT']}/"
    try:
        wait_until("the page", lambda: httpx.get(url, trust_env=False, timeout=20).status_code == 200, TIMEOUT)
        return monotonic()
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


if __name__ == "__main__":
    main()
