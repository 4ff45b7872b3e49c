"""`make rotate-secret s=…`: a new session key, status token or database password, while the app serves.

The app looks at its secret files again, so nothing restarts. Standard library only.
"""

import os
import re
import secrets
import time
from pathlib import Path

from slipway.commands import ROOT, backup, init
from slipway.commands.shared import database, lock
from slipway.commands.shared.compose import compose
from slipway.commands.shared.stop import Stop

DIRECTORY = ROOT / "secrets"
NOTICED = 3.0  # seconds, more than the app's interval between checks
GOOD = re.compile(r"[\w-]{32,}", re.ASCII)  # the least that may sign or be sent; a truncated file holds less
ROLES = {"postgres_password": "postgres"}  # a service's passwords are named after it: web_password, web_owner_password


def rotate_secret(s: str = "") -> None:
    """Changes the secret `s`."""
    try:
        rotate(s)
    except KeyboardInterrupt:
        raise Stop("interrupted. Run it again to complete it") from None


def rotate(name: str) -> None:
    """Killed at any step, it leaves a state that works, or that the next run completes; so does a full disk."""
    files = {path.name for path in DIRECTORY.glob("[!.]*")} if DIRECTORY.exists() else set()
    known = sorted(files - set(init.GIVEN))
    if name in init.GIVEN:
        raise Stop(f"{name} is made by others: write theirs into the file, cat > secrets/{name}")
    if name not in known:
        raise Stop(f"s={name or '…'} must be one of {', '.join(known) or 'the files in secrets/ (run make init)'}")
    with lock.production():  # no deploy meanwhile: its job `roles` would set the former password
        if name == "secret_key" or name.endswith("_secret_key"):
            rotate_key(DIRECTORY / name)
        elif name == "status_token":
            write(DIRECTORY / name, secrets.token_urlsafe(32) + "\n")  # who has signed in signs in again
        else:
            rotate_password(DIRECTORY / name, ROLES.get(name) or role_of(name))
    print(f"{name} is rotated.")


def rotate_key(path: Path) -> None:
    """Makes the key known everywhere before anything is signed with it; the former key still reads sessions."""
    former = next(filter(GOOD.fullmatch, path.read_text().split()), None)
    key = secrets.token_urlsafe(32)
    if former:
        write(path, f"{former}\n{key}\n")
        print("The new key is accepted; waiting until every worker knows it …", flush=True)
        time.sleep(NOTICED)
    write(path, f"{key}\n{former or ''}\n")


def rotate_password(path: Path, role: str) -> None:
    """Changes Postgres first, then the file; the new password is on disk before either, so it can't be lost."""
    database.refuse_elsewhere(
        f"change the password of {role} there, then write it into {path.relative_to(ROOT)}, which the app reads at once"
    )
    prepared = path.with_name(f".{path.name}.next")
    if not prepared.exists() or not GOOD.fullmatch(prepared.read_text().strip()):
        write_aside(prepared, secrets.token_urlsafe(32) + "\n")  # else complete an interrupted rotation
    password = prepared.read_text().strip()
    alter(role, password)
    write(path, password + "\n")
    prepared.unlink()


def alter(role: str, password: str) -> None:
    """Uses the script of the job `roles`, which keeps the password out of Postgres's log; passes it on stdin only."""
    run = compose("exec", "-T", "db", "/opt/slipway/postgres/roles.sh", role, input=password)
    if run.returncode:
        raise Stop(f"Postgres did not take the new password: {backup.reason(run.stderr)}. Run it again")


def role_of(name: str) -> str:
    if not (match := re.fullmatch(r"(\w+)_password", name)):
        raise Stop(f"secrets/{name} is neither a role's password nor a session key: change it by hand")
    return match[1]


def write_aside(path: Path, text: str) -> None:
    """Leaves the file complete and flushed to disk, or absent."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        with backup.private(unfinished) as file:
            file.write(text.encode())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)  # its name, too
    os.close(folder)


def write(path: Path, text: str) -> None:
    """Writes in place: a container's bind mount would keep the old file if a new one took its name. Only line ends are
    added or removed, which no reader minds; what precedes them changes in one write, which needs no space."""
    content = text.encode()
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.write(b"\n" * (len(content) - size))
        file.flush()
        os.fsync(file.fileno())  # a full disk stops it here
        file.seek(0)
        file.write(content.ljust(size, b"\n"))
        file.flush()
        file.truncate(len(content))
        os.fsync(file.fileno())
