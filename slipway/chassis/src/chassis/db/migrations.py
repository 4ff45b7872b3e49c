"""Alembic under an advisory lock: `python -m chassis.db.migrations upgrade`.

A service keeps `migrations/versions/` and an `env.py` of one call, `migrations.run(metadata)`.
Postgres runs a migration's DDL in its transaction, so a migration that fails leaves nothing behind.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import sqlalchemy
from alembic import command, context
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, event, text

from chassis.db import waits
from chassis.db.engine import engine_url
from chassis.observe.exits import UNAVAILABLE, fail, settings_or_exit
from chassis.settings import Settings

# Fail and try again, rather than queue behind a long query while every request queues behind the migration.
LOCK_TIMEOUT = "5s"

log = logging.getLogger("migrations")


def upgrade(settings: Settings, directory: Path, revision: str = "head") -> None:
    """Brings the database to `revision`; a second migrator waits, then finds nothing to do."""
    with connect(settings) as connection:
        run_command(connection, directory, command.upgrade, revision)


def connect(settings: Settings) -> Connection:
    """A separate connection without a statement timeout, since a migration may take long."""
    engine = sqlalchemy.create_engine(
        engine_url(settings.database),
        poolclass=sqlalchemy.NullPool,
        connect_args=waits.connect_args(settings, session=f"-c lock_timeout={LOCK_TIMEOUT}"),
    )
    hosts = waits.Hosts(settings.database)
    event.listen(
        engine,
        "do_connect",
        lambda dialect, record, given, named: hosts.connect(partial(dialect.connect, *given, **named)),
    )
    # Again for each transaction: behind a pooler, a session's own setting would get to other clients.
    event.listen(engine, "begin", lambda begun: begun.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    return engine.connect()


def run_command(connection: Connection, directory: Path, action: Callable[..., object], *arguments: str) -> None:
    """Runs an Alembic command on the connection, while no other migrator of this database runs."""
    with locked(connection.engine):
        try:
            action(config(directory, connection), *arguments)
            connection.commit()
        finally:
            connection.rollback()


@contextmanager
def locked(engine: sqlalchemy.Engine) -> Iterator[None]:
    """Holds the migrators' lock in a transaction of its own, beside those of the migrations: a pooler that gives out
    connections for a transaction would leave a session's lock on one that others then get."""
    with engine.connect() as holder, holder.begin():
        holder.execute(text("SET LOCAL lock_timeout = 0"))
        holder.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        holder.execute(text("SELECT pg_advisory_xact_lock(hashtext('alembic:' || current_database()))"))
        yield


def config(directory: Path, connection: Connection | None = None) -> Config:
    """Alembic's configuration, in code: no ini file to keep in step."""
    settings = Config(attributes={"connection": connection})
    settings.set_main_option("script_location", str(directory))
    settings.set_main_option("path_separator", "os")
    settings.set_main_option("file_template", "%%(year)d%%(month).2d%%(day).2d_%%(slug)s")
    return settings


def run(metadata: MetaData) -> None:
    """All that a service's `env.py` does: runs the migrations on the connection passed in."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def move(settings: Config, target: str) -> None:
    """Moves up or down to a revision, given by name or as `head`, `base` or `-1`; prints where the database is then."""
    connection = settings.attributes["connection"]
    scripts = ScriptDirectory.from_config(settings)
    at = MigrationContext.configure(connection).get_current_revision()
    earlier = {each.revision for each in scripts.iterate_revisions(at, "base")} - {at} if at else set()
    down = target == "base" or target.startswith("-") or target in earlier
    (command.downgrade if down else command.upgrade)(settings, target)
    now = MigrationContext.configure(connection).get_current_revision()
    print(f"{connection.engine.url.database} is at {now or 'no revision'}")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m chassis.db.migrations", description="Run migrations.")
    parser.add_argument("action", choices=["upgrade", "downgrade", "move", "current", "check"])
    parser.add_argument("revision", nargs="?", help="default: head, or one step down")
    parser.add_argument("--directory", type=Path, default=Path("migrations"))
    options = parser.parse_args(arguments)
    settings = settings_or_exit()
    action = move if options.action == "move" else getattr(command, options.action)
    target = {"upgrade": ["head"], "downgrade": ["-1"], "move": ["head"]}.get(options.action, [])
    if target and options.revision:
        target = [options.revision]
    try:
        with connect(settings) as connection:
            run_command(connection, options.directory, action, *target)
    except (CommandError, sqlalchemy.exc.SQLAlchemyError) as error:
        log.debug("traceback", exc_info=True)
        fail(
            UNAVAILABLE,
            f"{options.action} failed, and nothing was changed by the step that failed: {waits.reason(error)}",
        )


if __name__ == "__main__":
    main(sys.argv[1:])
