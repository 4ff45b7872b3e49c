"""Migrations make the schema that the models describe, and can be undone."""

from pathlib import Path

from alembic import command
from sqlalchemy import inspect

from chassis.db import migrations
from chassis.db.revisions import Revisions

MIGRATIONS = Path(__file__).parents[1] / "migrations"


def test_the_migrated_schema_is_the_one_that_the_models_describe(owner):
    with migrations.connect(owner) as connection:
        migrations.run_command(connection, MIGRATIONS, command.check)  # raises where they differ


def test_every_migration_can_be_undone_and_done_again(owner):
    with migrations.connect(owner) as connection:
        migrations.run_command(connection, MIGRATIONS, command.downgrade, "base")
        assert inspect(connection).get_table_names() in ([], ["alembic_version"])
    migrations.upgrade(owner, MIGRATIONS)
    with migrations.connect(owner) as connection:
        migrations.run_command(connection, MIGRATIONS, command.check)


def test_there_is_one_newest_revision():
    assert len(Revisions(MIGRATIONS).heads) <= 1
