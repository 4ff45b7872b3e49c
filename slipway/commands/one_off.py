"""One-off work: `make shell`, `psql`, `run`, and in development `migration`, `migrate`, `seed`, `reset-db`, `routes`.

Standard library only; shared/place.py says where a command runs.
"""

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from slipway.commands import ROOT
from slipway.commands.shared import inventory, place
from slipway.commands.shared.inventory import Service
from slipway.commands.shared.place import Place
from slipway.commands.shared.stop import Stop

MAIN = ["python", "-m", "chassis.process.worker"]  # runs the main.py of a worker or script
IN_THE_IMAGE = ("libs/", "services/", "slipway/chassis/")
COUNT_ROWS = r"""
SELECT format('SELECT %L, count(*) FROM %I.%I', relname, schemaname, relname)
FROM pg_stat_user_tables WHERE relname <> 'alembic_version' ORDER BY relname \gexec
"""


def shell(s: str = "") -> int:
    """Opens a Python shell with the app, its session and its models."""
    with place.find(service := of_flask(s, 'make run s={name} cmd="python"')) as here:
        return place.call(here.app(*migrated(here, service), "flask", "shell"))


def psql(s: str = "") -> int:
    """Opens psql on the database, as its owner."""
    with place.find(service := with_database(s)) as here:
        return place.call(here.psql(f"{service.name}_owner", service.name))


def run(cmd: str = "", s: str = "") -> int:
    """Runs a command in the app's environment; a worker or script takes options for its main.py."""
    words = words_of(cmd, service := inventory.find(s))
    with place.find(service) as here:
        if here.production and (script := next((each for each in words[:3] if is_script(each)), None)):
            raise Stop(f"{script} is not in production's image: hand it over, make run cmd='python -' < {script}")
        return place.call(here.app(*migrated(here, service), *words, database=service.database))


def words_of(cmd: str, service: Service) -> list[str]:
    try:
        words = shlex.split(cmd)
    except ValueError as error:
        raise Stop(f"cmd= can't be read ({error}): {cmd}") from None
    if words and not words[0].startswith("-"):
        return words
    if service.serves:
        raise Stop('say what to run, such as: make run cmd="python scripts/report.py --month 5"')
    return [*MAIN, *words]


def is_script(name: str) -> bool:
    return name.endswith(".py") and (ROOT / name).is_file() and not name.startswith(IN_THE_IMAGE)


def with_database(name: str) -> Service:
    """Finds the service. Raises Stop if it has no database."""
    service = inventory.find(name)
    if not service.database:
        raise Stop(f"the service {service.name} has no database")
    return service


def of_flask(name: str, instead: str) -> Service:
    """Finds the service. Raises Stop if its app is not Flask's, whose commands these are."""
    service = inventory.find(name)
    if service.kind not in inventory.FLASK:
        hint = f": {instead.format(name=service.name, url=service.dev_url)}" if service.kind == "asgi" else ""
        raise Stop(f"this asks a Flask app, and {service.name} is of the kind {service.kind}{hint}")
    return service


@contextmanager
def in_development(
    service: Service, otherwise: str = "it is for development, and production runs here"
) -> Iterator[Place]:
    """Finds the place to run in. Raises Stop if production runs here."""
    with place.find(service) as here:
        if here.production:
            raise Stop(otherwise)
        yield here


def migrated(here: Place, service: Service) -> list[str]:
    """Migrates first if no stack has started, since nothing has migrated then."""
    return [] if here.running or not service.database else place.MIGRATED


def migration(m: str = "", empty: str = "", s: str = "") -> int:
    """Writes a migration; the file appears once it is known to work."""
    service = with_database(s)
    if not m:
        raise Stop('say what changes, such as: make migration m="add tags"')
    versions = Path("services") / service.name / "migrations/versions"
    before = set(versions.glob("*.py"))
    options = ["--empty"] if empty else []
    draft = ["python", "-m", "devserver.revision", "--directory", str(versions.parent), *options, m]
    with in_development(service) as here:
        if code := place.call(here.app(*as_owner(service), *draft)):
            return code
    for path in sorted(set(versions.glob("*.py")) - before):
        ruff = ROOT / ".venv/bin/ruff"
        if ruff.exists():
            subprocess.run([ruff, "format", "--quiet", path], check=False)
        print(f"\n{path.read_text()}\nRead {path}, correct it and commit it; then: make migrate")
    return 0


def migrate(to: str = "head", s: str = "") -> int:
    """Brings the development database to a revision."""
    service = with_database(s)
    with in_development(service, "production runs here, and migrates as a part of `make deploy`") as here:
        return go(here, service, to)


def go(here: Place, service: Service, revision: str) -> int:
    migrations = ["python", "-m", "chassis.db.migrations", "--directory", f"services/{service.name}/migrations"]
    return place.call(here.app(*as_owner(service), *migrations, "move", revision))


def as_owner(service: Service) -> list[str]:
    """The prefix that runs a command as the tables' owner, the role that migrates."""
    return ["env", f"DATABASE_USER={service.name}_owner"]


def seed(s: str = "") -> int:
    """Adds sample data to the development database."""
    of_flask(s, 'make run s={name} cmd="python -m {name}.seed", a module of your own')
    with in_development(service := with_database(s)) as here:
        return place.call(here.app(*migrated(here, service), "flask", "seed"))


def routes(s: str = "") -> int:
    """Prints the app's routes."""
    service = of_flask(s, "{url}/api/openapi.json has the routes of an API, while `make dev` runs")
    service = replace(service, database=False)  # which it does not query
    with in_development(service, 'production runs here; make run cmd="flask routes" asks it') as here:
        return place.call(here.app("flask", "routes", "--sort", "rule", database=False))


def reset_db(yes: str = "", s: str = "") -> int:
    """Drops the development database and its sessions, creates it again and migrates it."""
    with in_development(service := with_database(s)) as here:
        name = service.name
        print(f"This drops the development database {name}: {contents(here, name)}.")
        if yes != "1" and not confirmed(name):
            raise Stop("not confirmed; nothing was changed")
        made = ["--file", here.file("docker/database.sql")]
        quiet = ["-Xq", "--set=ON_ERROR_STOP=1", *(f"--set={each}={name}" for each in ("app", "database"))]
        drop = f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'
        dropped = here.psql("postgres", "postgres", *quiet, "--command", drop, *made)
        return place.call(dropped, stdin=subprocess.DEVNULL) or go(here, service, "head")


def contents(here: Place, service: str) -> str:
    """What the database holds, such as `orders 26 rows`."""
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
        raise Stop("no answer: yes=1 does not ask; nothing was changed") from None
