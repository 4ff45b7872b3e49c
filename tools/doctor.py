"""`make doctor`: what goes wrong on real machines, one line each, with what to do.

Exit code 1 where something has to be mended. Standard library only.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import engine
import environment

ROOT = Path(__file__).parents[1]
ROOM = 5  # GB that images, a build cache and a small database take
OK, HINT, BAD = "ok", "hint", "BAD"


def main() -> None:
    findings = [finding for check in CHECKS for finding in check()]
    for state, text in findings:
        print(f"{state:5} {text}")
    sys.exit(any(state == BAD for state, _ in findings))


def the_engine() -> Iterator[tuple[str, str]]:
    if problem := engine.problem():
        yield HINT, f"{problem}. Until then `make dev` and `make test` run natively"
        return
    version = engine.run("docker", "version", "--format", "{{.Server.Version}}").stdout.strip()
    compose = engine.run("docker", "compose", "version", "--short").stdout.strip()
    yield OK, f"Docker Engine {version} answers, Compose {compose}"
    yield from base_images()


def base_images() -> Iterator[tuple[str, str]]:
    for name in engine.BASES:
        image = environment.get("REGISTRY") + name
        if engine.run("docker", "image", "inspect", image).returncode == 0:
            continue
        if engine.run("docker", "manifest", "inspect", image).returncode:
            yield BAD, f"{image} is not here and can't be pulled: `make bases`, or name a mirror with REGISTRY=mirror/"


def disk() -> Iterator[tuple[str, str]]:
    free = shutil.disk_usage(ROOT).free / 1e9
    yield (
        (OK, f"{free:.0f} GB free")
        if free > ROOM
        else (BAD, f"{free:.1f} GB free: `docker system df` says what takes it")
    )


def ports() -> Iterator[tuple[str, str]]:
    wanted = {"DEV_PORT": "8000", "HTTP_PORT": "80", "HTTPS_PORT": "443"}
    for name, default in wanted.items():
        port = environment.get(name, default)
        if port.isdigit() and taken(int(port)) and not ours(port):
            yield HINT, f"port {port} ({name}) is taken: stop what listens there, or set {name} in .env"


def taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ours(port: str) -> bool:
    """Whether one of this project's containers holds it."""
    published = engine.run("docker", "ps", "--filter", f"publish={port}", "--format", "{{.Labels}}")
    return f"com.docker.compose.project.working_dir={ROOT}" in published.stdout


def environment_file() -> Iterator[tuple[str, str]]:
    if not (ROOT / ".env").exists():
        yield HINT, "no .env: production needs `make init`, development does not"
        return
    known = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    known |= {f"{name}_FILE" for name in known} | {"PREVIOUS_TAG"}
    if strange := sorted(environment.in_file().keys() - known):
        yield (
            HINT,
            f".env sets {', '.join(strange)}, which .env.example does not know: misspelt, or an older release's?",
        )
    else:
        yield OK, ".env sets what .env.example knows"


def secrets() -> Iterator[tuple[str, str]]:
    if not (ROOT / ".env").exists():
        return
    named = re.findall(r"file: \.\./secrets/(\w+)", (ROOT / "compose/prod.yaml").read_text())
    missing = [name for name in named if not (ROOT / "secrets" / name).exists()]
    if missing:
        yield BAD, f"secrets/ lacks {', '.join(missing)}: `make init` writes it"
    elif (ROOT / "secrets").stat().st_mode & 0o077:
        yield BAD, "secrets/ can be entered by others: chmod 700 secrets"
    else:
        yield OK, "secrets/ is whole, and closed to others"


def line_ends() -> Iterator[tuple[str, str]]:
    scripts = [*ROOT.glob("docker/**/*.sh"), *ROOT.glob("docker/bases/*"), *ROOT.glob(".ci/*")]
    wrong = [str(path.relative_to(ROOT)) for path in scripts if path.is_file() and b"\r\n" in path.read_bytes()]
    if wrong:
        yield (
            BAD,
            f"{wrong[0]} has Windows line ends, and no shell runs it: git config core.autocrlf input; git checkout .",
        )


def place() -> Iterator[tuple[str, str]]:
    if str(ROOT).startswith("/mnt/") and "microsoft" in Path("/proc/version").read_text().lower():
        yield (
            HINT,
            "the repository lies on a Windows drive, slow and deaf to saves: move it into WSL's own file system",
        )


def owner() -> Iterator[tuple[str, str]]:
    foreign = [
        path
        for path in (ROOT / ".data", ROOT / ".venv", ROOT / "services")
        if path.exists() and path.stat().st_uid != os.getuid()
    ]
    if foreign and os.getuid():
        yield BAD, f"{foreign[0].name}/ belongs to another user: sudo chown -R {os.getuid()} {foreign[0].name}"


def tools() -> Iterator[tuple[str, str]]:
    yield OK, f"Python {sys.version.split()[0]}"
    if not shutil.which("git"):
        yield HINT, "git is missing: versions and tests need it"
    if (
        not (shutil.which("uv") or (ROOT / ".cache/uv").exists())
        and subprocess.run([sys.executable, "-c", "import ensurepip"], capture_output=True, check=False).returncode
    ):
        yield BAD, "python3 can't make environments: install the package python3-venv"


CHECKS = (tools, the_engine, disk, ports, environment_file, secrets, line_ends, place, owner)

if __name__ == "__main__":
    main()
