"""Migrations make the schema that the models describe, and can be undone."""

from pathlib import Path

from alembic import command

from chassis.db import migrations

MIGRATIONS = Path(__file__).parents[1] / "migrations"


def test_the_migrated_schema_is_the_one_that_the_models_describe(owner):
    with migrations.connect(owner) as connection:
        migrations.run_command(connection, MIGRATIONS, command.check)  # raises where they differ


def test_every_migration_can_be_undone_and_done_again(owner):
    with migrations.connect(owner) as connection:
        migrations.run_command(connection, MIGRATIONS, command.downgrade, "base")
    migrations.upgrade(owner, MIGRATIONS)
