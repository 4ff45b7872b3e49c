"""`make migration`: a file appears once it is known to work, or none does."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.operations import ops
from sqlalchemy import Column, Integer, inspect

from chassis.db import migrations
from chassis.settings import Address, Settings
from devserver import revision
from devserver.revision import Refused

TEMPLATE = Path(__file__).parents[2] / "templates/service/services/{{ name }}/migrations/script.py.mako"
ENV = """
from sqlalchemy import Column, Enum, Integer, MetaData, String, Table
from chassis.db import migrations
metadata = MetaData()
{tables}
migrations.run(metadata)
"""
TAGS = 'Table("tags", metadata, Column("id", Integer, primary_key=True), Column("name", String(50)))'
MOODS = 'Table("moods", metadata, Column("mood", Enum("good", "bad", name="mood"), primary_key=True))'


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
        body = f"revision = {name!r}\ndown_revision = {after!r}\ndef upgrade(): pass\ndef downgrade(): pass\n"
        (self.directory / f"versions/{name}.py").write_text(body)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in (self.directory / "versions").iterdir() if path.is_file())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "migrations")


@pytest.fixture(scope="session")
def untouched(postgres) -> Address:
    """A database that copies are made from; nobody connects to it."""
    return postgres.create("planned")


@pytest.fixture
def settings(postgres, untouched) -> Iterator[Settings]:
    with postgres.lend(untouched) as address:
        yield Settings.load({"APP_ENV": "test", "SECRET_KEY": "k", "DATABASE_URL": address.url})


@pytest.fixture
def make(settings: Settings, folder: Folder) -> Callable[[str], tuple[Path, list[str]]]:
    return lambda message, **options: revision.revision(settings, folder.directory, message, **options)


def databases(postgres) -> set[str]:
    return {name for (name,) in postgres.execute("SELECT datname FROM pg_database")}


def tables(settings: Settings) -> list[str]:
    with migrations.connect(settings) as connection:
        return inspect(connection).get_table_names()


def test_a_migration_is_written_and_tried_elsewhere_and_works(postgres, settings, folder, make):
    before = databases(postgres)
    folder.describe(TAGS)
    path, warnings = make("Add tags, at last.")
    assert path.parent == folder.directory / "versions"
    assert folder.files == [path.name]
    assert path.stem.split("_", 1)[1] == "add_tags_at_last"
    assert '"""Add tags, at last."""' in path.read_text()
    assert warnings == []
    assert "tags" not in tables(settings)
    assert databases(postgres) == before
    assert revision.go(settings, folder.directory, "head").endswith(f"is at {path.stem}")
    assert "tags" in tables(settings)
    assert revision.go(settings, folder.directory, "base").endswith("is at no revision")
    assert "tags" not in tables(settings)


def test_it_goes_down_to_an_earlier_one_by_name_and_up_again(settings, folder):
    folder.add("one", None)
    folder.add("two", "one")
    for target, place in (("two", "two"), ("one", "one"), ("head", "two"), ("-1", "one")):
        assert revision.go(settings, folder.directory, target).endswith(f"is at {place}")


def test_one_to_write_by_hand_is_empty(folder, make):
    path, _ = make("move rows", empty=True)
    assert path.read_text().count("pass") == 2


@pytest.mark.parametrize("message", ['say "hi"', "back\\slash", '"""', "two\nlines", "Schlüssel für alle", "追加"])
def test_any_message_makes_a_file_that_python_reads(folder, make, message):
    folder.describe(TAGS)
    path, _ = make(message)
    compile(path.read_text(), path, "exec", dont_inherit=True)
    assert path.stem.isascii()
    assert len(path.stem) <= revision.LONGEST_NAME


def refused(make: Callable, folder: Folder, message: str = "add tags") -> str:
    """Why, and proof that nothing has come of it."""
    before = folder.files
    with pytest.raises(Refused) as refusal:
        make(message)
    assert folder.files == before
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_where_models_and_database_agree_there_is_nothing_to_write(folder, make):
    assert "nothing to generate" in refused(make, folder)


def test_a_database_that_is_behind_is_named(folder, make):
    folder.add("one", None)
    assert refused(make, folder) == "the database is at no revision, behind one: run `make migrate` first"


def test_a_revision_of_another_branch_is_named(settings, folder, make):
    folder.add("elsewhere", None)
    revision.go(settings, folder.directory, "head")
    (folder.directory / "versions/elsewhere.py").unlink()
    assert "at elsewhere, which no file here knows" in refused(make, folder)
    with pytest.raises(Refused, match="elsewhere"):
        revision.go(settings, folder.directory, "head")


def test_two_heads_are_named(settings, folder, make):
    folder.add("mine", None)
    folder.add("theirs", None)
    assert "two newest migrations, mine and theirs" in refused(make, folder)
    with pytest.raises(Refused, match="mine and theirs"):
        revision.go(settings, folder.directory, "head")


def test_a_name_that_is_taken_is_refused(settings, folder, make):
    folder.describe(TAGS)
    make("add tags")
    revision.go(settings, folder.directory, "head")
    folder.describe()
    assert "choose another message" in refused(make, folder)


def test_what_does_not_downgrade_cleanly_is_shown_and_not_kept(postgres, folder, make, capsys):
    before = databases(postgres)
    folder.describe(MOODS)  # Alembic's draft leaves the type behind, so that it can't be done again
    why = refused(make, folder, "add moods")
    assert "does not upgrade again after a downgrade" in why
    assert "empty=1" in why
    assert "def downgrade()" in capsys.readouterr().out
    assert databases(postgres) == before


def test_what_fails_where_rows_are_or_the_former_release_runs_is_told():
    change = ops.ModifyTableOps(
        "orders",
        [
            ops.AddColumnOp("orders", Column("rank", Integer, nullable=False)),
            ops.AddColumnOp("orders", Column("votes", Integer, nullable=False, server_default="0")),
            ops.DropColumnOp("orders", "body"),
        ],
    )
    told = revision.dangers(ops.UpgradeOps([change, ops.DropTableOp("tags")]))
    assert [line.split()[0] for line in told] == ["orders.rank", "orders.body", "tags"]
