"""`make dev`: the hot-reload stack, in containers if an engine answers, else natively.

`make debug`: one of its services under an editor's debugger.

Standard library only: with Docker, nothing needs to be installed on the machine.
"""

import os
import signal
import socket
import subprocess

from slipway.commands import ROOT
from slipway.commands.shared import debugger, development_images, engine, inventory, listeners, pythons
from slipway.commands.shared.compose import development
from slipway.commands.shared.inventory import Service
from slipway.commands.shared.stop import Stop


def dev(s: str = "") -> int:
    """Runs all services, or the one named."""
    chosen = [inventory.find(s)] if s else [each for each in inventory.all() if each.kind != "script"]
    return serve("dev", chosen, only=s)


def debug(s: str = "") -> int:
    """Runs one service under a debugger."""
    service = inventory.find(s)
    if service.kind != "web":
        raise Stop(f"the debugger runs services of the kind web, and {service.name} is of the kind {service.kind}")
    return serve("debug", [service], only=service.name)


def serve(verb: str, chosen: list[Service], only: str) -> int:
    ports = {each: each.dev_port for each in inventory.all() if each.serves}
    os.environ |= {each.port_setting: str(port) for each, port in ports.items()}  # passed to compose
    wanted = [(each.port_setting, port, each) for each, port in ports.items() if each in chosen]
    if verb == "debug":
        wanted.append(("DEBUG_PORT", debugger.port(), chosen[0]))
    why = "it was asked for" if os.environ.get("DOCKER") == "no" else engine.problem(engine.SHORT_TIMEOUT)
    if why:
        print(f"Running natively, on an embedded Postgres: {why}.", flush=True)
        for setting, port, _ in wanted:
            refuse_taken(verb, setting, port)
        return natively(verb, chosen)
    for setting, port, service in wanted:
        if not published(service, port):  # else our own stack holds the port
            refuse_taken(verb, setting, port)
    if missing := engine.images_problem():
        raise Stop(missing)
    return in_containers(verb, chosen, only)


def natively(verb: str, chosen: list[Service]) -> int:
    """Runs without containers. If the environment can't be installed, make has said why."""
    if code := subprocess.call(["make", "--silent", ".venv/installed"], cwd=ROOT):
        return code
    pythons.report()
    flag = ["--debug"] if verb == "debug" else []
    program = [str(ROOT / ".venv/bin/python"), "-m", "slipway.commands.shared.native"]
    os.chdir(ROOT)
    # So Ctrl-C goes straight to it.
    os.execvp(program[0], [*program, *flag, *(each.name for each in chosen)])  # noqa: S606 - a list of our own


def in_containers(verb: str, chosen: list[Service], only: str) -> int:
    inputs = development_images.inputs()
    os.environ |= {"DEV_UID": str(os.getuid()), "DEV_GID": str(os.getgid()), "DEV_INPUTS": inputs}
    build = [] if development_images.built(inputs) else ["--build"]
    overlay = debugger.overlay(chosen[0]) if verb == "debug" else ""
    compose = [*development(), *(["--file", "-"] if overlay else [])]
    return until_ctrl_c([*compose, "up", *build, "--no-attach", "db", *([only] if only else [])], overlay)


def until_ctrl_c(command: list[str], stdin: str) -> int:
    """Runs the command, which receives Ctrl-C as well; returns its exit code, 0 if it was asked to stop."""
    asked = []
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE if stdin else None, text=True) as process:
        if process.stdin:
            process.stdin.write(stdin)
            process.stdin.close()
        signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, frame: process.terminate())
        code = process.wait()
    if asked:
        print("Stopped; the data stays in its volume.")
    return 0 if asked else code


def refuse_taken(verb: str, setting: str, port: int) -> None:
    """Fails with one line now, instead of a stack that fails halfway through its start."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            who = listeners.holder(port)
            by = " by this checkout's own `make dev`" if who is None else f" by {who}" if who else ""
            raise Stop(
                f"cannot use port {port}: {(error.strerror or str(error)).lower()}{by}. "
                f"Take another, make {verb} {setting}={port + 1}, or stop what listens there"
            ) from None


def published(service: Service, port: int) -> bool:
    """Whether our own stack holds the port."""
    return f":{port}->" in engine.run(*development(), "ps", "--format", "{{.Ports}}", service.name).stdout
