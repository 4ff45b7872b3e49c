"""`make init`: writes `.env` and `secrets/*` with generated values, and creates the directory for
scheduled backups; it never touches what exists.

Standard library only: it runs on a server that has only python3 and Docker.
"""

import os
import re
import secrets
from pathlib import Path

from slipway.commands import ROOT
from slipway.commands.shared import engine
from slipway.commands.shared.stop import Stop

SECRETS = re.compile(r"file: \.\./secrets/(\w+)")
GIVEN = ("alert_smtp_secret", "alert_webhook_url")  # by others: created empty, to be filled in


def init() -> None:
    """Creates what is missing, and prints one line for each file."""
    try:
        write_env()
        write_secrets()
        make_backups()
    except OSError as error:
        raise Stop(f"cannot write {error.filename}: {error.strerror}") from None


def write_env() -> None:
    text = (ROOT / ".env.example").read_text()
    if not (ROOT / ".env").exists() and engine.has_ipv6():
        text = text.replace("#EDGE_IPV6=false", "EDGE_IPV6=true")
    create(ROOT / ".env", text, mode=0o600)


def write_secrets(quiet: bool = False) -> None:
    """One file for each secret that production names: the list is in its compose files and nowhere else."""
    directory = ROOT / "secrets"
    directory.mkdir(mode=0o700, exist_ok=True)
    for name in named():
        # Readable by all, in a directory that is not: compose mounts a secret with the file's mode.
        create(directory / name, "" if name in GIVEN else secrets.token_urlsafe(32) + "\n", mode=0o644, quiet=quiet)


def named() -> list[str]:
    """The secrets that compose/*.yaml name, each once."""
    texts = [path.read_text() for path in sorted((ROOT / "compose").glob("*.yaml"))]
    return list(dict.fromkeys(name for text in texts for name in SECRETS.findall(text)))


def make_backups() -> None:
    """A directory where the service `backup`, which has its own user, may write, inside one that only we may enter."""
    directory = ROOT / "backups/scheduled"
    known = directory.exists()
    directory.parent.mkdir(mode=0o700, exist_ok=True)
    close(directory.parent)
    directory.mkdir(exist_ok=True)
    if not known:
        directory.chmod(0o777)  # the umask limits mkdir's mode
    print(f"{'kept    ' if known else 'created '} {directory.relative_to(ROOT)}")


def close(directory: Path) -> None:
    """Closes the directory to others: its dumps may be readable, and an older release created it with the umask's mode.
    If it belongs to another user, `make doctor` says what to do."""
    status = directory.stat()
    if status.st_mode & 0o077 and status.st_uid == os.getuid():
        directory.chmod(0o700)
        print(f"closed   {directory.relative_to(ROOT)}/, which others could enter")


def create(path: Path, text: str, mode: int, quiet: bool = False) -> None:
    """Writes the file completely or not at all, and keeps an existing one."""
    shown = path.relative_to(ROOT)
    if path.exists():
        if not quiet:
            print(f"kept     {shown}")
        return
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text)
    unfinished.chmod(mode)
    try:
        os.link(unfinished, path)  # fails if the file has appeared meanwhile
    except FileExistsError:
        print(f"kept     {shown}")
    else:
        print(f"created  {shown}")
    finally:
        unfinished.unlink()
