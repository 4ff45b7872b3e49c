"""`make rotate-secret s=…`: a new session key, status token or database password, while the app serves.

The app looks at its secret files again, so nothing restarts. Standard library only.
"""

import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIRECTORY = ROOT / "secrets"
NOTICED = 3.0  # seconds, over the app's interval between looks
ROLES = {"postgres_password": "postgres"}  # a service's are named by it: web_password, web_owner_password


class Failed(Exception):
    """Why nothing was rotated, and what to do, in one line."""


def main(name: str) -> None:
    known = sorted(path.name for path in DIRECTORY.glob("[!.]*")) if DIRECTORY.exists() else []
    if name not in known:
        raise Failed(f"s={name or '…'} must be one of {', '.join(known) or 'the files in secrets/ (run make init)'}")
    if name == "secret_key" or name.endswith("_secret_key"):
        rotate_key(DIRECTORY / name)
    elif name == "status_token":
        write(DIRECTORY / name, secrets.token_urlsafe(32) + "\n")  # who has signed in signs in again
    else:
        rotate_password(DIRECTORY / name, ROLES.get(name) or role_of(name))
    print(f"{name} is rotated.")


def rotate_key(path: Path) -> None:
    """Known everywhere before anything is signed with it; the former key still reads sessions."""
    former = path.read_text().split()[0]
    key = secrets.token_urlsafe(32)
    write(path, f"{former}\n{key}\n")
    print("The new key is accepted; waiting until every worker knows it …", flush=True)
    time.sleep(NOTICED)
    write(path, f"{key}\n{former}\n")


def rotate_password(path: Path, role: str) -> None:
    """Postgres first, then the file; the new one is on disk before either, so that none can be lost."""
    prepared = path.with_name(f".{path.name}.next")
    if not prepared.exists():  # else a rotation was interrupted: go on with its password
        prepared.touch(mode=0o600)
        prepared.write_text(secrets.token_urlsafe(32) + "\n")
    password = prepared.read_text().strip()
    alter(role, password)
    write(path, password + "\n")
    prepared.unlink()


def alter(role: str, password: str) -> None:
    """As the superuser over the container's socket; the password goes in by standard input alone."""
    shell = "PGPASSWORD=$(cat /run/secrets/postgres_password) exec psql -XqU postgres -v ON_ERROR_STOP=1"
    statement = f"ALTER ROLE \"{role}\" PASSWORD '{password}';\n"
    run = subprocess.run(
        ["docker", "compose", "exec", "-T", "db", "sh", "-c", shell],
        cwd=ROOT, input=statement, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or ["no word why"])[-1]
        raise Failed(f"Postgres did not take the new password, the old one holds: {reason}")


def role_of(name: str) -> str:
    if not (match := re.fullmatch(r"(\w+)_password", name)):
        raise Failed(f"secrets/{name} is no password of a role and no session key: change it by hand")
    return match[1]


def write(path: Path, text: str) -> None:
    """In place: a container's bind mount would keep the old file if a new one took its name."""
    with path.open("r+") as file:
        file.write(text)
        file.truncate()
        os.fsync(file.fileno())


if __name__ == "__main__":
    try:
        main(os.environ.get("S", ""))
    except (Failed, OSError) as error:
        sys.exit(f"make rotate-secret: {error}.")
