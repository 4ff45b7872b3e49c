"""`python -m devserver.revision "add tags"`: a migration from what the models say, once it is known to work;
`--to REVISION` brings the database to one, up or down.

What is written is tried on a scratch database first, both ways, so that nobody's rows are touched.
"""

import argparse
import io
import re
import secrets
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.operations import ops
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text

from chassis.db import migrations, waits
from chassis.db.engine import engine_url
from chassis.settings import Settings
from devserver import verbs

LONGEST_NAME = 32  # characters that alembic_version.version_num holds


class Refused(Exception):
    """No migration is written: why, and what to do, in one line."""


def revision(settings: Settings, directory: Path, message: str, empty: bool = False) -> tuple[Path, list[str]]:
    """The new file, and what to think of before it meets rows. Raises Refused, and then nothing is written."""
    former = newest(directory)
    settings = as_role(settings, f"{settings.database.user}_owner")
    if (at := current(settings)) != former:
        raise Refused(behind(directory, at, former))
    target = directory / "versions" / f"{name_of(message)}.py"
    if target.exists():
        raise Refused(f"{target} exists: choose another message")
    with TemporaryDirectory() as scratch:
        copy = Path(scratch) / "migrations"
        shutil.copytree(directory, copy)
        draft, warnings = write(settings, copy, target.stem, message, empty)
        try:
            prove(settings, copy, former, draft)
        except Refused:
            print(draft.read_text())
            raise
        unfinished = shutil.copyfile(draft, target.with_suffix(".unfinished"))
        return unfinished.rename(target), warnings


def newest(directory: Path) -> str | None:
    """The head. Raises Refused where there are two."""
    heads = sorted(migrations.heads(directory))
    if len(heads) > 1:
        raise Refused(
            f"there are two newest migrations, {' and '.join(heads)}: "
            f"let down_revision of the one that came later name the other"
        )
    return heads[0] if heads else None


def current(settings: Settings) -> str | None:
    """The revision that the database is at."""
    with migrations.connect(settings) as connection:
        if not sqlalchemy.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def behind(directory: Path, at: str | None, head: str | None) -> str:
    known = {script.revision for script in ScriptDirectory.from_config(migrations.config(directory)).walk_revisions()}
    if at and at not in known:
        return f"the database is at {at}, which no file here knows: go to its branch, or `make reset-db`"
    return f"the database is at {at or 'no revision'}, behind {head}: run `make migrate` first"


def write(settings: Settings, directory: Path, name: str, message: str, empty: bool) -> tuple[Path, list[str]]:
    """The draft, in `directory`/versions."""
    warnings: list[str] = []

    def consider(context: object, former: object, scripts: list) -> None:
        if scripts[0].upgrade_ops.is_empty() and not empty:
            scripts.clear()
        else:
            warnings.extend(dangers(scripts[0].upgrade_ops))

    def generate(config: Config) -> object:
        return command.revision(
            config, docstring(message), autogenerate=not empty, rev_id=name, process_revision_directives=consider
        )

    script = perform(settings, directory, generate)
    if not script:
        raise Refused("there is nothing to generate: models and database agree (empty=1 makes one to write by hand)")
    path = Path(script.path)
    lines = [line for line in path.read_text().splitlines() if not line.strip().startswith("# ###")]
    path.write_text("\n".join(line.rstrip() for line in lines).rstrip() + "\n")
    return path.rename(path.with_name(f"{script.revision}.py")), warnings


def prove(settings: Settings, directory: Path, former: str | None, draft: Path) -> None:
    """Up, down, up again on a scratch database, then nothing is left that the models say. Raises Refused."""
    steps: list[tuple[str, Callable, str | None]] = [
        ("does not upgrade", command.upgrade, "head"),
        ("does not downgrade", command.downgrade, former or "base"),
        ("does not upgrade again after a downgrade", command.upgrade, "head"),
        ("does not make what the models say", command.check, None),
    ]
    with scratch_database(settings) as scratch:
        perform(scratch, directory, lambda config: command.upgrade(config, former or "base"))
        for fault, action, target in steps:
            try:
                perform(scratch, directory, lambda config, a=action, t=target: a(config, *([t] if t else [])))
            except (CommandError, sqlalchemy.exc.SQLAlchemyError, AttributeError, TypeError, NameError) as error:
                raise Refused(
                    f"the draft above {fault}, and was not kept: {reason(error)}. "
                    f"Write it by hand: make migration m=… empty=1"
                ) from None


@contextmanager
def scratch_database(settings: Settings) -> Iterator[Settings]:
    """A database of the same owner, gone afterwards."""
    name = f"{settings.database.name}_scratch_{secrets.token_hex(4)}"
    url = engine_url(as_role(settings, "postgres", "postgres").database)
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
    with engine.connect() as admin:
        admin.execute(text(f'CREATE DATABASE "{name}" OWNER "{settings.database.user}"'))
        try:
            yield as_role(settings, settings.database.user, name)
        finally:
            admin.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))


def as_role(settings: Settings, user: str, name: str | None = None) -> Settings:
    """The same server for another role: in development all share one password."""
    address = replace(settings.database, user=user, name=name or settings.database.name)
    return replace(settings, database_url=address.url)


def perform(settings: Settings, directory: Path, action: Callable) -> object:
    """The result of an Alembic command, without what Alembic prints."""
    results = []

    def act(config: Config) -> None:
        config.stdout = io.StringIO()
        results.append(action(config))

    with migrations.connect(settings) as connection, redirect_stdout(io.StringIO()):
        migrations.run_command(connection, directory, act)
    return results[0]


def dangers(upgrade: ops.UpgradeOps) -> list[str]:
    """What goes well on an empty database, and not where there are rows or the former release runs."""
    found = []
    for each in flat(upgrade):
        if isinstance(each, ops.AddColumnOp) and not each.column.nullable and each.column.server_default is None:
            found.append(
                f"{each.table_name}.{each.column.name} is NOT NULL without a server_default: that fails where rows are"
            )
        elif isinstance(each, ops.DropColumnOp):
            found.append(f"{each.table_name}.{each.column_name} goes, while the former release still reads it")
        elif isinstance(each, ops.DropTableOp):
            found.append(f"{each.table_name} goes with its rows, while the former release still reads it")
    return found


def flat(container: ops.OpContainer) -> Iterator[ops.MigrateOperation]:
    for each in container.ops:
        if isinstance(each, ops.OpContainer):
            yield from flat(each)
        else:
            yield each


def name_of(message: str) -> str:
    """`20261120_add_tags`, of whole words."""
    plain = unicodedata.normalize("NFKD", message).encode("ascii", "ignore").decode().lower()
    now = datetime.now(UTC)
    name = f"{now:%Y%m%d}"
    for word in re.findall(r"[a-z0-9]+", plain) or [f"{now:%H%M%S}"]:
        if len(name) + 1 + len(word) > LONGEST_NAME:
            break
        name += f"_{word}"
    return name


def docstring(message: str) -> str:
    line = " ".join(message.split()).rstrip(".").replace("\\", "\\\\").replace('"', "'")
    return line[:1].upper() + line[1:]


def go(settings: Settings, directory: Path, target: str) -> str:
    """Brings the database to `target`, up or down, and says where it is then. Raises Refused."""
    if target in ("head", "heads"):
        newest(directory)
    settings = as_role(settings, f"{settings.database.user}_owner")
    at = current(settings)
    scripts = ScriptDirectory.from_config(migrations.config(directory))
    known = {script.revision for script in scripts.walk_revisions()}
    if at and at not in known:
        raise Refused(behind(directory, at, None))
    down = target == "base" or target.startswith("-") or target in passed(scripts, at)
    action = command.downgrade if down else command.upgrade
    perform(settings, directory, lambda config: action(config, target))
    now = current(settings) or "no revision"
    return f"{settings.database.name} is at {now}" + (", as before" if now == (at or "no revision") else "")


def passed(scripts: ScriptDirectory, at: str | None) -> set[str]:
    """The revisions before the one that the database is at."""
    return {script.revision for script in scripts.iterate_revisions(at, "base")} - {at} if at else set()


def reason(error: Exception) -> str:
    if isinstance(error, sqlalchemy.exc.SQLAlchemyError):
        return waits.reason(error)
    return " ".join(str(error).split())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devserver.revision", description="Write a migration.")
    parser.add_argument("message", nargs="?", default="")
    parser.add_argument("--directory", type=Path, default=Path("migrations"))
    parser.add_argument("--empty", action="store_true", help="one to write by hand")
    parser.add_argument("--to", help="bring the database to this revision instead")
    options = parser.parse_args()
    verb = "make migrate" if options.to else "make migration"
    settings = verbs.settings(verb)
    try:
        if options.to:
            print(go(settings, options.directory, options.to))
            return
        path, warnings = revision(settings, options.directory, options.message, options.empty)
    except Refused as refusal:
        sys.exit(f"{verb}: {refusal}.")
    except (CommandError, sqlalchemy.exc.SQLAlchemyError) as error:
        sys.exit(f"{verb}: {reason(error)}")
    print(f"{path}: upgrades, downgrades, upgrades again, and makes what the models say.")
    for warning in warnings:
        print(f"Mind: {warning}.")


if __name__ == "__main__":
    main()
