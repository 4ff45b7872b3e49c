import pytest

from chassis.db.revisions import Revisions


@pytest.fixture
def versions(tmp_path):
    """Migrations a <- b <- c <- d <- e, in the ways that people write them."""
    folder = tmp_path / "versions"
    folder.mkdir()
    (folder / "1.py").write_text('revision = "a"\ndown_revision = None\n')
    (folder / "2.py").write_text("revision: str = 'b'\ndown_revision: str | None = 'a'\n")
    (folder / "3.py").write_text('"""revision = "x" in a text does not count"""\nrevision = "c"\ndown_revision = "b"\n')
    (folder / "4.py").write_text('revision, down_revision = "d", "c"\n')
    (folder / "5.py").write_text('revision = "e"\ndown_revision = ("d",)\n')
    return tmp_path


def test_the_newest_revision_is_the_one_that_no_other_follows(versions):
    schema = Revisions(versions)
    assert schema.known == {"a", "b", "c", "d", "e"}
    assert schema.heads == {"e"}


@pytest.mark.parametrize(
    ("current", "behind"),
    [
        ({"e"}, False),
        ({"d"}, True),
        ({"c"}, True),
        ({"b"}, True),
        ({"a"}, True),
        (set(), True),
        ({"from-a-later-release"}, False),
    ],
)
def test_an_older_schema_is_behind_and_a_later_one_is_not(versions, current, behind):
    assert Revisions(versions).behind(current) is behind


def test_a_service_without_migrations_is_never_behind(tmp_path):
    assert Revisions(tmp_path).behind(set()) is False
