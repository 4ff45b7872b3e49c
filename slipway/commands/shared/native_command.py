"""One command without containers, in a service's development environment: `native_command SERVICE KIND WORD…`.

KIND is `app`, `psql` (then USER DATABASE), or `alone` for what needs no database.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from chassis_testing.postgres import Postgres, PostgresError, find_programs
from slipway.commands import ROOT
from slipway.commands.shared import inventory, lock, native, place


def main(service: str, kind: str, *words: str) -> int:
    os.environ["PATH"] = f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    if kind == "alone":
        os.environ |= environment(service, 1, "none")
        return place.call(list(words))
    with server() as postgres:
        os.environ |= environment(service, postgres.port, postgres.password)
        if kind == "app":
            return place.call(list(words))
        user, database, *rest = words
        address = ["-h", "127.0.0.1", "-p", str(postgres.port), "-U", user, "-d", database]
        return place.call([str(find_programs() / "psql"), *address, *rest])


def environment(service: str, port: int, password: str) -> dict[str, str]:
    """The environment that `make dev` gives the app, the database's settings apart so that DATABASE_USER can differ."""
    database = {"HOST": "127.0.0.1", "PORT": str(port), "NAME": service, "USER": service, "PASSWORD": password}
    given = {**native.environment(inventory.find(service)), "PGPASSWORD": password}
    return given | {f"DATABASE_{name}": value for name, value in database.items()}


@contextmanager
def server() -> Iterator[Postgres]:
    """The server of `make dev` if that runs, else one that is stopped when no command uses it any more."""
    directory = ROOT / ".data/postgres"
    with lock.shared(directory / "users.lock") as held:  # waits for a process that starts or stops the server
        postgres = Postgres(directory)
        if not postgres.running():
            fcntl.flock(held, fcntl.LOCK_EX)
        if port := postgres.running():
            fcntl.flock(held, fcntl.LOCK_SH)
            postgres.port = port
            yield postgres
            return
        with postgres:
            for service in inventory.all():
                if service.database:
                    postgres.create(service.name)
            fcntl.flock(held, fcntl.LOCK_SH)
            try:
                yield postgres
            finally:
                wait_for_others(held)


def wait_for_others(held: IO[str]) -> None:
    """Waits: another terminal's `make psql` must not lose the server that this one has started."""
    if not lock.taken(held):
        print("Another terminal uses this Postgres: it stops once that is done.", file=sys.stderr)
        fcntl.flock(held, fcntl.LOCK_EX)


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except PostgresError as error:
        sys.exit(f"make: {error}")
