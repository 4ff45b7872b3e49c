"""`make remove-sample` in a fresh clone: nothing of the sample is left, and the remaining tests pass."""

import re

import pytest

from slipway.proofs.forks.fork import Fork, complaint

SOURCES = ("compose", "docker", "services", "tests", "Makefile", "README.md", ".env.example", "docs")


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    return Fork(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def removed(fork):
    """The fork without the sample, with what the command said."""
    fork.said = fork.make("remove-sample").stdout
    return fork


def test_a_tree_with_changes_is_refused_and_left_alone(fork):
    fork.write("NOTICE", "not committed")
    refused = complaint(fork.make("remove-sample", check=False))
    (fork.directory / "NOTICE").unlink()
    assert refused == "make remove-sample: NOTICE is not committed: commit or stash first, then run it again."
    assert fork.changed() == ""


def test_a_failed_run_leaves_the_tree_as_it_was(fork):
    settings = fork.directory / "services/web/src/web/settings.py"
    good = settings.read_text()
    settings.write_text(f"{good}\n\nimport nothing_of_that_name\n")
    fork.commit("Break what `make docs` reads")
    fork.make("remove-sample", check=False)
    assert fork.changed() == ""
    settings.write_text(good)
    fork.commit("Mend it")


def test_the_tree_without_the_sample_is_clean_and_its_tests_pass(removed):
    assert "D  services/web/src/web/notes/api.py" in removed.said
    assert "DROP TABLE IF EXISTS notes" in removed.said
    left = removed.run("git", "grep", "--untracked", "-niE", "notes|sample: (begin|end)", "--", *SOURCES, check=False)
    assert left.stdout == ""
    removed.make("lint")
    tested = removed.make("test", "args=-q services slipway/commands")
    assert re.search(r"\d+ passed", tested.stdout)
    assert "failed" not in tested.stdout
