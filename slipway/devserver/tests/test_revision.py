"""`make migration`: a file appears whole, or not at all."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.util import CommandError
from sqlalchemy import inspect

from chassis.db import migrations
from chassis.settings import Address, Settings
from devserver import revision

TEMPLATE = Path(__file__).parents[2] / "templates/service/services/{{ name }}/migrations/script.py.mako"
ENV = """
from sqlalchemy import Column, Integer, MetaData, String, Table
from chassis.db import migrations
metadata = MetaData()
{tables}
migrations.run(metadata)
"""
TAGS = 'Table("tags", metadata, Column("id", Integer, primary_key=True), Column("name", String(50)))'


class Folder:
    """A service's migrations, whose models are the tables that `describe` names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "versions").mkdir(parents=True)
        (directory / "script.py.mako").write_text(TEMPLATE.read_text())
        self.describe()

    def describe(self, *tables: str) -> None:
        (self.directory / "env.py").write_text(ENV.format(tables="\n".join(tables)))

    def add(self, name: str, after: str | None) -> None:
        text = f"revision, down_revision = {name!r}, {after!r}\n\ndef upgrade(): pass\n\ndef downgrade(): pass\n"
        (self.directory / f"versions/{name}.py").write_text(text)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "versions").iterdir() if path.is_file())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "migrations")


@pytest.fixture(scope="session")
def untouched(postgres) -> Address:
    """A database that copies are made from; no session is open on it."""
    return postgres.create("planned")


@pytest.fixture
def connection(postgres, untouched) -> Iterator:
    with postgres.lend(untouched) as address:
        url = address.url.replace("planned:", "planned_owner:", 1)
        with migrations.connect(Settings(app_env="test", database_url=url)) as connection:
            yield connection


def move(connection, folder, target):
    migrations.run_command(connection, folder.directory, migrations.move, target)


def tables(connection):
    return inspect(connection).get_table_names()


def test_a_migration_is_what_the_models_say_and_goes_up_and_down(connection, folder):
    folder.describe(TAGS)
    path = revision.draft(connection, folder.directory, "Add tags, at last")
    assert folder.files == [path.name]
    assert path.stem.endswith("_add_tags_at_last")
    assert "Add tags, at last" in path.read_text()
    assert "tags" not in tables(connection)
    move(connection, folder, "head")
    assert "tags" in tables(connection)
    move(connection, folder, "base")
    assert "tags" not in tables(connection)


def test_it_goes_down_to_an_earlier_one_by_name_and_up_again(connection, folder, capsys):
    folder.add("one", None)
    folder.add("two", "one")
    for target, place in (("two", "two"), ("one", "one"), ("head", "two"), ("-1", "one"), ("base", "no revision")):
        move(connection, folder, target)
        assert capsys.readouterr().out.endswith(f"is at {place}\n")


def test_one_to_write_by_hand_is_empty(connection, folder):
    assert revision.draft(connection, folder.directory, "move rows", empty=True).read_text().count("pass") == 2


@pytest.mark.parametrize("message", ['say "hi"', "back\\slash", '"""', "two\nlines", "Schlüssel für alle", "追加"])
def test_any_message_makes_a_file_that_python_reads(connection, folder, message):
    folder.describe(TAGS)
    path = revision.draft(connection, folder.directory, message)
    compile(path.read_text(), path, "exec", dont_inherit=True)
    assert path.stem.isascii()
    assert len(path.stem) <= revision.MAX_ID


def test_what_fails_leaves_no_file_and_says_why(connection, folder):
    with pytest.raises(revision.Nothing, match="models and database agree"):
        revision.draft(connection, folder.directory, "add nothing")
    folder.describe(TAGS)
    (folder.directory / "script.py.mako").write_text("${nowhere}")
    with pytest.raises(CommandError, match="Template rendering failed"):
        revision.draft(connection, folder.directory, "add tags")
    assert folder.files == []
    folder.add("one", None)
    with pytest.raises(CommandError, match="Target database is not up to date"):
        revision.draft(connection, folder.directory, "add tags")
    assert folder.files == ["one.py"]
