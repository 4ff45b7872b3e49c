"""One-off work: `make shell`, `psql`, `run`, and in development `migration`, `migrate`, `seed`, `reset-db`, `routes`.

The words come in environment variables. Standard library only; slipway/commands/place.py says where a command runs.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from slipway.commands import ROOT, place
from slipway.commands.place import Place, Unavailable

IN_THE_IMAGE = ("libs/", "services/", "slipway/chassis/")
COUNT_ROWS = r"""
SELECT format('SELECT %L, count(*) FROM %I.%I', relname, schemaname, relname)
FROM pg_stat_user_tables WHERE relname <> 'alembic_version' ORDER BY relname \gexec
"""


def main(verb: str) -> int:
    """The command's own exit code."""
    service = place.check_service(word("SERVICE"))
    if verb not in ("shell", "run", "routes") and not service.database:
        raise Unavailable(f"the service {service.name} has no database")
    check, work = VERBS[verb]
    check()
    with place.find(service.name, database=service.database and verb != "routes") as here:
        if here.production and verb not in ("shell", "psql", "run"):
            raise Unavailable(PRODUCTION.get(verb, "it is for development, and production runs here"))
        return work(here, service.name)


def word(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def shell(here: Place, service: str) -> int:
    return place.call(here.app(*migrated(here), "flask", "shell"))


def psql(here: Place, service: str) -> int:
    return place.call(here.psql(f"{service}_owner", service))


def run(here: Place, service: str) -> int:
    words = shlex.split(word("CMD"))
    if here.production and (script := next((each for each in words[:3] if is_script(each)), None)):
        raise Unavailable(f"{script} is not in production's image: hand it over, make run cmd='python -' < {script}")
    return place.call(here.app(*migrated(here), *words))


def check_command() -> None:
    try:
        words = shlex.split(word("CMD"))
    except ValueError as error:
        raise Unavailable(f"cmd= can't be read ({error}): {word('CMD')}") from None
    if not words:
        raise Unavailable('say what to run, such as: make run cmd="python scripts/report.py --month 5"')


def is_script(name: str) -> bool:
    return name.endswith(".py") and (ROOT / name).is_file() and not name.startswith(IN_THE_IMAGE)


def migrated(here: Place) -> list[str]:
    """Where no stack has started, nobody has migrated yet."""
    return [] if here.running else place.MIGRATED


def migration(here: Place, service: str) -> int:
    """Writes a migration; the file appears once it is known to work."""
    versions = Path("services") / service / "migrations/versions"
    before = set(versions.glob("*.py"))
    options = ["--empty"] if word("EMPTY") else []
    make = ["python", "-m", "devserver.revision", "--directory", str(versions.parent), *options, word("MESSAGE")]
    if code := place.call(here.app(*make)):
        return code
    for path in sorted(set(versions.glob("*.py")) - before):
        ruff = ROOT / ".venv/bin/ruff"
        if ruff.exists():
            subprocess.run([ruff, "format", "--quiet", path], check=False)
        print(f"\n{path.read_text()}\n{path} is yours to read, to mend and to commit; then: make migrate")
    return 0


def check_message() -> None:
    if not word("MESSAGE"):
        raise Unavailable('say what changes, such as: make migration m="add tags"')


def migrate(here: Place, service: str) -> int:
    moved = ["python", "-m", "devserver.revision", "--directory", f"services/{service}/migrations"]
    return place.call(here.app(*moved, "--to", word("TO", "head")))


def seed(here: Place, service: str) -> int:
    return place.call(here.app(*migrated(here), "python", "-m", "devserver.seed"))


def routes(here: Place, service: str) -> int:
    return place.call(here.app("python", "-m", "devserver.routes", database=False))


def reset_db(here: Place, service: str) -> int:
    """Drops the database with whoever uses it, makes it again and migrates it."""
    print(f"This drops the development database {service}: {contents(here, service)}.")
    if not word("YES") and not confirmed(service):
        raise Unavailable("not confirmed; nothing was changed")
    made = ["--file", here.file("docker/database.sql")]
    names = [f"--set={name}={service}" for name in ("app", "database")]
    drop = f'DROP DATABASE IF EXISTS "{service}" WITH (FORCE)'
    quiet = ["-Xq", "--set=ON_ERROR_STOP=1", *names]
    dropped = here.psql("postgres", "postgres", *quiet, "--command", drop, *made)
    if code := place.call(dropped, stdin=subprocess.DEVNULL):
        return code
    return migrate(here, service)


def contents(here: Place, service: str) -> str:
    """What it holds, such as `orders 26 rows`."""
    count = here.psql("postgres", service, "-XqAt", "--field-separator= ")
    listing = subprocess.run(count, input=COUNT_ROWS, capture_output=True, text=True, check=False)
    if listing.returncode:
        return "it can't be read, or is not there yet"
    return ", ".join(f"{line} rows" for line in listing.stdout.splitlines()) or "it holds no table"


def confirmed(service: str) -> bool:
    try:
        return input(f"Type {service} to lose all that: ").strip() == service
    except EOFError:
        print()
        raise Unavailable("nobody answers: yes=1 does not ask; nothing was changed") from None


def nothing() -> None:
    pass


VERBS: dict[str, tuple[Callable[[], None], Callable[[Place, str], int]]] = {
    "shell": (nothing, shell),
    "psql": (nothing, psql),
    "run": (check_command, run),
    "migration": (check_message, migration),
    "migrate": (nothing, migrate),
    "seed": (nothing, seed),
    "reset-db": (nothing, reset_db),
    "routes": (nothing, routes),
}
PRODUCTION = {
    "migrate": "production runs here, and migrates as a part of `make deploy`",
    "routes": 'production runs here; make run cmd="flask routes" asks it',
}

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except Unavailable as reason:
        sys.exit(f"make {sys.argv[1]}: {reason}.")
    except KeyboardInterrupt:
        sys.exit(f"\nmake {sys.argv[1]}: interrupted.")
