"""`python -m devserver.revision "add tags"`: Alembic's draft of a migration, which appears whole or not at all.

It is written in a copy of the folder. The service's own `test_migrations.py` shows that it goes up and down.
"""

import argparse
import re
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic import command
from alembic.config import Config
from alembic.operations.ops import MigrationScript
from alembic.script import Script
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from chassis.db import migrations, waits
from chassis.observe.exits import settings_or_exit

MAX_ID = 32  # characters that alembic_version.version_num holds


class Nothing(Exception):
    """There is nothing to write."""


def draft(connection: Connection, directory: Path, message: str, empty: bool = False) -> Path:
    """The new file. Raises FileExistsError, Nothing, and what Alembic raises."""
    name = id_of(message)
    target = directory / "versions" / f"{name}.py"
    if target.exists():
        raise FileExistsError(f"{target} exists: choose another message")

    def keep(context: object, former: object, scripts: list[MigrationScript]) -> None:
        if not empty and (drafted := scripts[0].upgrade_ops) and drafted.is_empty():
            raise Nothing("models and database agree (empty=1 makes one to write by hand)")

    def write(config: Config) -> None:
        script = command.revision(
            config, message, autogenerate=not empty, rev_id=name, process_revision_directives=keep
        )
        if not isinstance(script, Script):
            raise Nothing("Alembic wrote nothing")
        unfinished = shutil.copyfile(script.path, target.with_suffix(".unfinished"))
        unfinished.rename(target)

    with TemporaryDirectory() as scratch:
        copy = shutil.copytree(directory, Path(scratch) / "migrations")
        migrations.run_command(connection, copy, write)
    return target


def id_of(message: str) -> str:
    """`20261120_add_tags`, which is the file's name as well: a listing reads as a history."""
    words = re.sub(r"\W+", "_", message.lower(), flags=re.ASCII).strip("_")
    return f"{datetime.now(UTC):%Y%m%d}_{words}"[:MAX_ID].rstrip("_")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devserver.revision")
    parser.add_argument("message")
    parser.add_argument("--directory", type=Path, default=Path("migrations"))
    parser.add_argument("--empty", action="store_true", help="one to write by hand")
    options = parser.parse_args()
    try:
        with migrations.connect(settings_or_exit()) as connection:
            print(draft(connection, options.directory, options.message, options.empty))
    except (CommandError, FileExistsError, Nothing) as error:
        sys.exit(f"make migration: {' '.join(str(error).split())}")
    except SQLAlchemyError as error:
        sys.exit(f"make migration: {waits.reason(error)}")


if __name__ == "__main__":
    main()
