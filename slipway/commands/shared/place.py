"""Where a one-off command runs: inside what runs here, else in a temporary container or natively.

Standard library only.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from slipway.commands import ROOT
from slipway.commands.shared import database, development_images, engine, inventory, lock
from slipway.commands.shared.compose import PRODUCTION, development, parse
from slipway.commands.shared.stop import Stop

LOCK = ROOT / ".cache/one-off.lock"  # held by every command that needs a database started for it
POSTMASTER = ROOT / ".data/postgres/data/postmaster.pid"
# The container knows only the superuser's password, and the session takes on the requested role.
PROGRAM = """\
export PGPASSWORD=${POSTGRES_PASSWORD:-$(cat "$POSTGRES_PASSWORD_FILE")} PGOPTIONS="--role=$1"
database=$2; shift 2
exec psql --host 127.0.0.1 --username postgres --dbname "$database" "$@"
"""
# The same where Postgres is elsewhere, with the role's own password.
ELSEWHERE = """\
export PGPASSWORD=$(cat "/run/secrets/$1_password") PGUSER=$1 PGDATABASE=$2
shift 2
exec psql --dbname "$DATABASE_URL" "$@"
"""
# As the owner of the tables, before the command itself, so that a fresh database has them.
MIGRATED = [
    "sh",
    "-c",
    "LOG_LEVEL=WARNING DATABASE_USER=${SERVICE}_owner python -m chassis.db.migrations"
    ' --directory "services/$SERVICE/migrations" upgrade >&2 && exec "$@"',
    "sh",
]


class Place(Protocol):
    production: bool
    running: bool  # whether a stack has started, so that the app's tables exist

    def app(self, *words: str, database: bool = True) -> list[str]:
        """The command that runs `words` with the service's environment, in the repository's root."""

    def psql(self, user: str, name: str, *words: str) -> list[str]: ...

    def file(self, path: str) -> str:
        """The path at which the database's programs find a file of the repository's docker/."""


@dataclass
class Stack:
    """Running containers."""

    compose: list[str]
    container: str
    production: bool = False
    running: bool = True

    def app(self, *words: str, database: bool = True) -> list[str]:
        return [*self.compose, "exec", *terminal(), "--workdir", "/app", *history(self), self.container, *words]

    def psql(self, user: str, name: str, *words: str) -> list[str]:
        if self.production and database.elsewhere():
            run = [*self.compose, "--progress", "quiet", "run", "--rm", "--no-deps", *terminal(), "roles"]
            return [*run, "sh", "-c", ELSEWHERE, "psql", user, name, *words]
        return [*self.compose, "exec", *terminal(), "db", "sh", "-c", PROGRAM, "psql", user, name, *words]

    def file(self, path: str) -> str:
        return f"/opt/{path}"


class Script(Stack):
    """A script of production's: each run of it is a container of its own."""

    def app(self, *words: str, database: bool = True) -> list[str]:
        run = [*self.compose, "--progress", "quiet", "run", "--rm", *terminal(), "--workdir", "/app"]
        return [*run, self.container, *words]


class OneOff(Stack):
    """A development container for this command alone; its database may have to be started."""

    def __init__(self, service: str) -> None:
        super().__init__(development(), service, running=False)

    def app(self, *words: str, database: bool = True) -> list[str]:
        run = [*self.compose, "--progress", "quiet", "run", "--rm", "--no-deps", *terminal(), "--workdir", "/app"]
        waits = [] if database else ["--env", "DATABASE_WAIT_COMMANDS=none"]  # else the entrypoint waits for one
        return [*run, *history(self), *waits, self.container, *words]


@dataclass
class Native:
    """The same without containers, on the Postgres of `make dev` or a temporary one."""

    service: str
    production: bool = False
    running: bool = False

    def app(self, *words: str, database: bool = True) -> list[str]:
        return self._run("app" if database else "alone", *words)

    def psql(self, user: str, name: str, *words: str) -> list[str]:
        return self._run("psql", user, name, *words)

    def file(self, path: str) -> str:
        return str(ROOT / path)

    def _run(self, *words: str) -> list[str]:
        return [str(ROOT / ".venv/bin/python"), "-m", "slipway.commands.shared.native_command", self.service, *words]


@contextmanager
def find(service: inventory.Service) -> Iterator[Place]:
    """What runs here: development in containers or natively, else production, else a temporary
    place. Raises Stop."""
    os.chdir(ROOT)
    os.environ |= {"DEV_UID": str(os.getuid()), "DEV_GID": str(os.getgid())}
    problem = "DOCKER=no" if os.environ.get("DOCKER") == "no" else engine.problem()
    if not problem and runs(development(), service.name):
        yield Stack(development(), service.name)
    elif problem or native_runs():
        yield native(service.name)
    elif service.replicas and runs(PRODUCTION, service.replicas[0]):
        yield Stack(PRODUCTION, service.replicas[0], production=True)
    elif service.kind == "script" and not runs(development(), *serving()) and runs(PRODUCTION, "listener"):
        yield Script(PRODUCTION, service.name, production=True)
    else:
        with one_off(service.name, service.database) as place:
            yield place


@contextmanager
def one_off(service: str, database: bool) -> Iterator[OneOff]:
    """Starts the database if it does not run, and stops it again unless something else needs it."""
    if missing := engine.images_problem():
        raise Stop(missing)
    os.environ["DEV_INPUTS"] = development_images.inputs()
    if not development_images.built(os.environ["DEV_INPUTS"]):
        prepare([*development(), "build", service], "the development image can't be built")
    if not database:
        yield OneOff(service)
        return
    with lock.shared(LOCK) as held:
        try:
            if not runs(development(), "db"):
                roles = [*development(), *progress(), "run", "--rm", "roles"]  # which waits for the database
                prepare(roles, "the development database does not start")
            yield OneOff(service)
        finally:
            if lock.taken(held) and containers() == 1:
                engine.run(*development(), "stop", "db")


def containers() -> int:
    """How many development containers run."""
    project = engine.run(*development(), "config", "--format", "json")
    name = parse(project.stdout).get("name", "")
    return len(engine.run("docker", "ps", "-q", "--filter", f"label=com.docker.compose.project={name}").stdout.split())


def prepare(command: list[str], otherwise: str) -> None:
    """Runs a preparation with its progress on stderr: stdin and stdout belong to the command."""
    if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode:
        raise Stop(otherwise)


def progress() -> list[str]:
    """The option for compose's progress, which is useful only in a terminal."""
    return [] if sys.stderr.isatty() else ["--progress", "quiet"]


def runs(compose: list[str], *names: str) -> bool:
    """Whether any of these services runs."""
    listing = engine.run(*compose, "ps", "--quiet", "--status", "running", *names)
    return listing.returncode == 0 and bool(listing.stdout.strip())


def serving() -> list[str]:
    """The services that serve in development, whose names differ from those of production's replicas."""
    return [each.name for each in inventory.all() if each.serves]


def native_runs() -> bool:
    """Whether `make dev` runs natively here, by its Postgres."""
    try:
        pid, _, _, port, *_ = POSTMASTER.read_text().splitlines()
        with suppress(PermissionError):  # another user's
            os.kill(int(pid), 0)
        with socket.create_connection(("127.0.0.1", int(port)), 1):
            return True
    except (OSError, ValueError):
        return False


def native(service: str) -> Native:
    if subprocess.call(["make", "--silent", ".venv/installed"], stdout=sys.stderr):
        raise Stop("there is no environment to run it in")
    return Native(service, running=native_runs())


def terminal() -> list[str]:
    """Allocates a terminal inside only if there is one outside: it would put CR before every LF of a pipe."""
    return [] if sys.stdin.isatty() and sys.stdout.isatty() else ["--no-TTY"]


def history(place: Stack) -> list[str]:
    """Keeps what was typed in `make shell` beyond the container, in the repository's .cache/."""
    return [] if place.production else ["--env", "PYTHON_HISTORY=/app/.cache/python_history"]


def call(command: list[str], stdin: int | None = None) -> int:
    """Runs the command to its end, and returns its exit code; Ctrl-C is left to the command."""
    former = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        code = subprocess.run(command, check=False, stdin=stdin).returncode
    finally:
        signal.signal(signal.SIGINT, former)
    return code if code >= 0 else 128 - code
