"""`make bench-ten`: what each of ten services in one monorepo costs, as a table in Markdown.

In a clone of this tree's last commit, it measures the seconds of `make service` (rendering, lock, documents) and
of the image's build, the megabytes that the image adds, and the seconds of the services' own tests.
"""

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slipway.commands import ROOT

COUNT = 10
GIT = ("git", "-c", "user.name=Bench", "-c", "user.email=bench@example.com")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tree, prefix = Path(folder), f"slipway-bench/{secrets.token_hex(3)}-"
        run(tree, "git", "clone", "--quiet", str(ROOT), ".")
        run(tree, "make", ".venv/installed")
        known: set[str] = set()
        print("| service | `make service`, s | build, s | image adds, MB | own tests, s |\n|---|---|---|---|---|")
        try:
            for number in range(1, COUNT + 1):
                print(row(tree, f"shop{number}", prefix, known), flush=True)
            took, said = timed(tree, ".venv/bin/python", "-m", "pytest", "-q", "services")
            print(f"\nAll services' tests, web's included: {passed(said)} in {took:.0f} s.")
        finally:
            names = run(tree, "docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", f"{prefix}*").split()
            if names:
                run(tree, "docker", "image", "rm", "--force", *names)


def row(tree: Path, name: str, prefix: str, known: set[str]) -> str:
    generated, _ = timed(tree, "make", "service", f"name={name}")
    run(tree, *GIT, "add", "--all")
    run(tree, *GIT, "commit", "--quiet", "--message", f"Add {name}")
    run(tree, "make", ".venv/installed")
    image = f"{prefix}{name}:bench"
    file = ("--file", "docker/service.Dockerfile", "--build-arg", f"SERVICE={name}")
    built, _ = timed(tree, "docker", "build", "--quiet", *file, "--tag", image, ".")
    tested, _ = timed(tree, ".venv/bin/python", "-m", "pytest", "-q", f"services/{name}")
    return f"| {name} | {generated:.1f} | {built:.1f} | {added(tree, image, known):.2f} | {tested:.1f} |"


def added(tree: Path, image: str, known: set[str]) -> float:
    """MB of the layers that no earlier image has, by their chain: the same layer on top of another is stored twice."""
    layers = json.loads(run(tree, "docker", "image", "inspect", image))[0]["RootFS"]["Layers"]
    sizes = [
        int(size) for size in run(tree, "docker", "history", "--human=false", "--format", "{{.Size}}", image).split()
    ]
    sizes = [size for size in reversed(sizes) if size]
    chain, total = "", 0
    for layer, size in zip(layers, sizes + [0] * len(layers), strict=False):
        chain += layer
        if chain not in known:
            known.add(chain)
            total += size
    return total / 1e6


def passed(said: str) -> str:
    return (re.findall(r"\d+ passed", said) or ["nothing passed"])[-1]


def timed(tree: Path, *command: str) -> tuple[float, str]:
    began = time.monotonic()
    said = run(tree, *command)
    return time.monotonic() - began, said


def run(tree: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode:
        sys.exit(f"make bench-ten: {' '.join(command)}: {(done.stderr or done.stdout).strip()[-500:]}")
    return done.stdout


if __name__ == "__main__":
    main()
