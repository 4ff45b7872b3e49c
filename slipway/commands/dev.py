"""`make dev`: the hot-reload stack, in containers where an engine answers, else natively.

`make debug`: one service of it under an editor's debugger.

Standard library only: with Docker, nothing needs to be installed on the machine.
"""

import hashlib
import os
import signal
import socket
import subprocess
import sys

from slipway.commands import ROOT, debug, engine, environment, inventory, listeners
from slipway.commands.inventory import Service

FILES = ["compose/base.yaml", "compose/dev.yaml", *(f"compose/{each.name}.dev.yaml" for each in inventory.all())]
COMPOSE = ["docker", "compose", *(word for file in FILES for word in ("--file", file))]
if (ROOT / ".env").exists():  # it lies beside compose.yaml, where compose does not look for it
    COMPOSE += ["--env-file", ".env"]
# What an image of development holds besides the source, which is mounted.
MADE_OF = (
    "docker/*.*",
    ".dockerignore",
    "pyproject.toml",
    "uv.lock",
    "libs/*/pyproject.toml",
    "slipway/*/pyproject.toml",
    "services/*/pyproject.toml",
)


def main(verb: str, name: str) -> None:
    chosen, ports = choose(verb, name)
    debugging = verb == "debug"
    why = "it was asked for" if os.environ.get("DOCKER") == "no" else engine.problem(engine.SHORT_TIMEOUT)
    if why:
        print(f"Running natively, on an embedded Postgres: {why}.", flush=True)
        for service, port in ports.items():
            refuse_taken(verb, service.port_setting, port)
        if debugging:
            refuse_taken(verb, "DEBUG_PORT", debug.port())
        flag = ["--debug"] if debugging else []
        native = [
            str(ROOT / ".venv/bin/python"),
            "-m",
            "slipway.commands.native",
            *flag,
            *(each.name for each in chosen),
        ]
        sys.exit(subprocess.call(["make", "--silent", ".venv/installed"], cwd=ROOT) or become(native))
    running = engine.run(*COMPOSE, "ps", "--services").stdout.split()
    for service, port in ports.items():
        if service.name not in running:  # else it is our own stack that holds the port
            refuse_taken(verb, service.port_setting, port)
    if debugging and not published(chosen[0], debug.port()):
        refuse_taken(verb, "DEBUG_PORT", debug.port())
    if missing := engine.images_problem():
        sys.exit(f"make {verb}: {missing}.")
    os.environ |= {"DEV_UID": str(os.getuid()), "DEV_GID": str(os.getgid()), "DEV_INPUTS": inputs()}
    build = [] if built(os.environ["DEV_INPUTS"]) else ["--build"]
    overlay = debug.overlay(chosen[0]) if debugging else ""
    compose = [*COMPOSE, "--file", "-"] if debugging else COMPOSE
    sys.exit(until_ctrl_c([*compose, "up", *build, "--no-attach", "db", *([name] if name else [])], overlay))


def until_ctrl_c(command: list[str], stdin: str) -> int:
    """Runs the command, which gets Ctrl-C as well; returns its exit code, 0 where it was asked to stop."""
    asked = []
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE if stdin else None, text=True) as process:
        if stdin:
            process.stdin.write(stdin)
            process.stdin.close()
        signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, frame: process.terminate())
        code = process.wait()
    if asked:
        print("Stopped; the data stays in its volume.")
    return 0 if asked else code


def inputs() -> str:
    """What the development images are made of, in a word: none is built again while it stays the same."""
    base = environment.get("REGISTRY") + engine.bases()[0]
    content = hashlib.sha256(
        engine.run("docker", "image", "inspect", "--format", "{{.Id}} " + base, base).stdout.encode()
    )
    for pattern in MADE_OF:
        for path in sorted(ROOT.glob(pattern)):
            content.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return content.hexdigest()[:16]


def built(word: str) -> bool:
    """Whether every image that is built for development is made of just that."""
    listing = engine.run(*COMPOSE, "config", "--images").stdout.split()
    names = sorted({name for name in listing if name.endswith(":dev")})
    labels = engine.run("docker", "image", "inspect", "--format", '{{index .Config.Labels "slipway.inputs"}}', *names)
    return bool(names) and labels.stdout.split() == [word] * len(names)


def choose(verb: str, name: str) -> tuple[list[Service], dict[Service, int]]:
    """The services that run all the time, or the one named; the ports of those that serve, told to compose."""
    try:
        chosen = [inventory.find(name)] if name or verb == "debug" else [each for each in inventory.all() if each.kind != "script"]
        ports = {each: each.dev_port for each in inventory.all() if each.serves}
        if verb == "debug" and chosen[0].kind != "web":
            raise ValueError(f"the debugger runs services of the kind web, and {chosen[0].name} is of the kind {chosen[0].kind}")
        debug.port()
    except (LookupError, ValueError) as error:
        sys.exit(f"make {verb}: {error}.")
    os.environ |= {each.port_setting: str(port) for each, port in ports.items()}
    return chosen, {each: port for each, port in ports.items() if each in chosen}


def refuse_taken(verb: str, setting: str, port: int) -> None:
    """One line now instead of a stack that fails half-way up."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            who = listeners.holder(port)
            by = " by this checkout's own `make dev`" if who is None else f" by {who}" if who else ""
            sys.exit(
                f"make {verb}: cannot use port {port}: {error.strerror.lower()}{by}. "
                f"Stop what listens there, or take another: make {verb} {setting}={port + 1}"
            )


def published(service: Service, port: int) -> bool:
    """Whether it is our own stack that holds the port."""
    return f":{port}->" in engine.run(*COMPOSE, "ps", "--format", "{{.Ports}}", service.name).stdout


def become(command: list[str]) -> None:
    """Ctrl-C then goes straight to the command."""
    os.chdir(ROOT)
    os.execvp(command[0], command)  # noqa: S606 - a list of our own, no shell


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["dev"]), os.environ.get("SERVICE", ""))
