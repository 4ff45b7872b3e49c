"""`make shell`, `make psql` and `make run cmd=…`: inside what runs, development first, else production.

Standard library only.
"""

import os
import shlex
import sys
from pathlib import Path

import dev
import engine

ROOT = Path(__file__).parents[1]
# As the owner of the tables; the password is in the container's environment or in its secret file.
PSQL = (
    'PGPASSWORD=${OWNER_PASSWORD:-$(cat "$OWNER_PASSWORD_FILE")}'
    ' exec psql --host 127.0.0.1 --username "$1_owner" --dbname "$1"'
)


def main(verb: str, service: str, command: str) -> None:
    os.chdir(ROOT)
    if problem := engine.problem():
        sys.exit(f"make {verb}: {problem}.")
    compose, replica = running(verb, service)
    inside = {
        "shell": [replica, "flask", "shell"],
        "psql": ["db", "sh", "-c", f"export PGPASSWORD; {PSQL}", "psql", service],
        "run": [replica, *shlex.split(command)],
    }[verb]
    if verb == "run" and not command:
        sys.exit('make run: say what to run, such as: make run cmd="python scripts/report.py --month 5"')
    terminal = [] if sys.stdin.isatty() else ["-T"]
    dev.become([*compose, "exec", *terminal, *inside])


def running(verb: str, service: str) -> tuple[list[str], str]:
    """The compose command and the container of the stack that runs."""
    for compose, name in ((dev.COMPOSE, service), (["docker", "compose"], f"{service}-a")):
        listing = engine.run(*compose, "ps", "--quiet", "--status", "running", name)
        if listing.returncode == 0 and listing.stdout.strip():
            return compose, name
    sys.exit(f"make {verb}: nothing runs here: start it with `make dev` or `make up`.")


if __name__ == "__main__":
    main(sys.argv[1], os.environ.get("SERVICE") or "web", os.environ.get("CMD", ""))
