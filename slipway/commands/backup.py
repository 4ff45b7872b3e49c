"""`make backup` and `make restore`: production's database to a file and back, while it serves.

slipway/postgres/backup.sh does the work beside the database, in its container; this module handles the
host's file, the questions and the order of the steps. Standard library only.
"""

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, NamedTuple

from slipway.commands import ROOT, init
from slipway.commands.shared import database, engine, inventory, lock
from slipway.commands.shared.compose import PRODUCTION, compose, parse
from slipway.commands.shared.stop import Stop

BACKUPS = ROOT / "backups"
SCRIPT = "/opt/slipway/postgres/backup.sh"
EXEC = [*PRODUCTION, "exec", "-T", "--env", "OWNER_PASSWORD", "db", SCRIPT]  # its value comes from our environment
UNCHANGED = "interrupted; nothing was changed"
MAGIC = b"PGDMP"  # how an archive in pg_dump's custom format begins


class Contents(NamedTuple):
    database: str
    tables: int
    rows: int

    def __str__(self) -> str:
        return f"{counted(self.tables, 'table')} with {counted(self.rows, 'row')}"


def backup(s: str = "") -> None:
    """Writes a verified dump of the service's database to backups/."""
    service = service_of(s)
    try:
        dump_to_file(service)
    except OSError as error:
        raise Stop(f"{error.filename or BACKUPS}: {error.strerror}") from None
    except KeyboardInterrupt:
        raise Stop(UNCHANGED) from None


def restore(s: str = "", file: str = "", yes: str = "") -> None:
    """Replaces the database with a dump; `yes` skips the question."""
    service = service_of(s)
    try:
        replace(service, file, yes == "1")
    except (KeyboardInterrupt, EOFError):
        raise Stop(UNCHANGED) from None


def service_of(name: str) -> str:
    """The service's name: a removed service may still have its database."""
    database.refuse_elsewhere("its provider backs it up and restores it; docs/deploy.md has a dump by hand")
    if problem := engine.problem():
        raise Stop(problem)
    return name or inventory.find().name


def dump_to_file(service: str) -> None:
    """Dumps under a temporary name, reads the dump back, and only then renames it."""
    started = time.monotonic()
    os.environ["OWNER_PASSWORD"] = password_of(service)
    BACKUPS.mkdir(mode=0o700, exist_ok=True)
    init.close(BACKUPS)
    path, unfinished = claimed(service)
    digest = digest_of(path)
    try:
        checksum = dump(service, unfinished)
        contents = check(unfinished)
        with private(digest) as file:
            file.write(f"{checksum}  {path.name}\n".encode())
        unfinished.rename(path)
    except BaseException:
        digest.unlink(missing_ok=True)
        raise
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"{shown(path)}: {size(path)}, {contents}, in {seconds(started)}")


def claimed(service: str) -> tuple[Path, Path]:
    """A name that no other backup of the same second has, and its unfinished file, already created."""
    while True:
        path = BACKUPS / f"{service}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.dump"
        unfinished = path.with_name(f".{path.name}.unfinished")
        with suppress(FileExistsError):
            os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL, 0o600))
            if not path.exists():
                return path, unfinished
            unfinished.unlink()
        time.sleep(0.1)


def replace(service: str, name: str, yes: bool) -> None:
    """Restores into a new database while the old one serves; they swap names once all is well."""
    if not name:
        raise Stop("which dump? Say file=backups/….dump")
    if not yes and not sys.stdin.isatty():
        raise Stop("replacing a database needs confirmation, and there is no terminal: say yes=1 to go ahead")
    path = Path(name)
    with lock.production():
        done(compose("exec", "-T", "db", "true", stdin=subprocess.DEVNULL))  # or reports how to start it
        contents = verified(path, service)
        os.environ["OWNER_PASSWORD"] = password_of(service)
        print(f"{name} is whole: the database {service}, {contents}.", flush=True)
        if not digest_of(path).exists():
            print(f"Without {digest_of(path)}, though, damage to what defines its tables goes unseen.", flush=True)
        if not yes and input(f"Type {service} to replace the database {service} by it: ").strip() != service:
            raise Stop("not confirmed; nothing was changed")
        new = f"{service}_restore_{datetime.now(UTC):%Y%m%d_%H%M%S}"
        started = time.monotonic()
        try:
            for step in (["select"], ["load", service, new]):
                with path.open("rb") as archive:
                    inside(*step, stdin=archive)
            note = migrate(service, new)
            took = seconds(started)
            kept, milliseconds = swap(service, new).split()
        except BaseException as error:
            with suppress(Stop):  # if even that fails, the next restore removes it
                inside("drop", new)
            if isinstance(error, Stop):
                raise Stop(f"{error}; the database {service} serves as before") from None
            raise
    print(f"Restored {contents} in {took}{note}; the app was without a database for {milliseconds} ms.")
    print(f"The former database is kept as {kept}. To drop it, or to go back to it:")
    print(f"  docker compose exec db {SCRIPT} drop {kept}")
    print(f"  docker compose exec db {SCRIPT} swap {service} {kept}")


def dump(service: str, path: Path) -> str:
    """Writes what comes from the container, and returns its SHA-256."""
    checksum = hashlib.sha256()
    with private(path) as file, tempfile.TemporaryFile() as errors:
        run = subprocess.Popen([*EXEC, "dump", service], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors)
        assert run.stdout  # a pipe, as requested
        try:
            while chunk := run.stdout.read(1 << 20):
                checksum.update(chunk)
                file.write(chunk)
        except BaseException:
            run.kill()
            raise
        finally:
            run.stdout.close()
            run.wait()
        if run.returncode:
            errors.seek(0)
            raise Stop(reason(errors.read().decode(errors="replace")))
    return checksum.hexdigest()


def verified(path: Path, service: str) -> Contents:
    """What the archive holds. Raises Stop unless it is complete and from this service's database."""
    if not path.is_file():
        raise Stop(f"there is no file {path}")
    with path.open("rb") as archive:
        if archive.read(len(MAGIC)) != MAGIC:
            raise Stop(f"{path} is not an archive in pg_dump's custom format; nothing was changed")
        if digest_of(path).exists():
            archive.seek(0)
            expected = digest_of(path).read_text().split()
            if expected[:1] != [hashlib.file_digest(archive, "sha256").hexdigest()]:
                raise Stop(f"{path} is damaged, its SHA-256 differs from {digest_of(path)}; nothing was changed")
    try:
        contents = check(path)
    except Stop as error:
        raise Stop(f"{path}: {error}; nothing was changed") from None
    if contents.database != service:
        raise Stop(f"{path} holds the database {contents.database}, not {service}; nothing was changed")
    return contents


def check(path: Path) -> Contents:
    """Reads the whole archive, including its rows, with the server's own pg_restore."""
    with path.open("rb") as archive:
        try:
            database, tables, rows = inside("check", stdin=archive).split()
        except (Stop, ValueError) as error:
            raise Stop(f"the archive is damaged or cut off: {error}") from None
    return Contents(database, int(tables), int(rows))


def migrate(service: str, database: str) -> str:
    """Brings an older backup to this release's schema before any request uses it."""
    if (job := inventory.find(service).job) is None:
        raise Stop(f"the service {service} has no database")
    named = ("--env", f"DATABASE_NAME={database}")
    run = compose("run", "--rm", "--no-deps", "-T", *named, job, stdin=subprocess.DEVNULL)
    if not run.returncode:
        return ", migrations included"
    output = run.stdout + run.stderr
    if "Can't locate revision" in output:  # the archive is from a later release, whose schema this one can serve on too
        return ", its schema left as it is, a later release's"
    raise Stop(f"the restored database can't be migrated: {last_message(output).rstrip('.')}")


def swap(service: str, new: str) -> str:
    """Runs in its own session: Ctrl-C must not leave it unclear which database has the name."""
    former = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return inside("swap", service, new, start_new_session=True)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def inside(*arguments: str, stdin: int | IO[bytes] = subprocess.DEVNULL, start_new_session: bool = False) -> str:
    """Runs a step of backup.sh beside the database and returns what it prints."""
    run = subprocess.run(
        [*EXEC, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=stdin,
        start_new_session=start_new_session,
    )
    return done(run)


def done(run: subprocess.CompletedProcess[str]) -> str:
    if run.returncode:
        raise Stop(reason(run.stderr))
    return run.stdout


def reason(output: str) -> str:
    """The line that says what went wrong, in the words of compose, psql, pg_dump or pg_restore."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any("is not running" in line for line in lines):
        return "the database is not running: start it with `docker compose up --detach --wait db`"
    wrong = [line for line in lines if "error" in line.lower() or "FATAL" in line]
    return (wrong or lines[-1:] or ["no reason was given"])[0].removeprefix("pg_restore: error: ")


def last_message(output: str) -> str:
    """The message of the last JSON line of a log, or its last line."""
    lines = output.strip().splitlines() or ["no reason was given"]
    for line in reversed(lines):
        if message := parse(line).get("message"):
            return str(message)
    return lines[-1]


def password_of(service: str) -> str:
    """The password of the database's owner, the role that runs the dump and the restore."""
    path = ROOT / "secrets" / f"{service}_owner_password"
    if not re.fullmatch(r"\w+", service) or not path.exists():
        raise Stop(f"there is no database of a service {service}: secrets/ has no {path.name}")
    return path.read_text().strip()


@contextmanager
def private(path: Path) -> Iterator[IO[bytes]]:
    """A file that only this user can read, flushed to disk when the block ends."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        yield file
        file.flush()
        os.fsync(descriptor)


def digest_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def size(path: Path) -> str:
    amount = float(path.stat().st_size)
    for unit in ("bytes", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} GB"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def seconds(started: float) -> str:
    return f"{time.monotonic() - started:.1f} s"
