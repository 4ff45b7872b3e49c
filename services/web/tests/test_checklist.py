"""The checklist for a fork reads the repository's files."""

import pytest

from web import checklist


def done(root):
    """Which tasks are done, except for the sample, which may be here or not."""
    return [task.done for task in checklist.tasks(root) if "sample" not in task.title]


def test_nothing_is_done_in_a_fresh_fork(tmp_path):
    assert done(tmp_path) == [False, False, False]


def test_each_task_is_ticked_by_what_it_leaves_behind(tmp_path):
    (tmp_path / ".slipway.toml").write_text("[fork]")  # by `make rename`
    (tmp_path / "secrets").mkdir()
    assert done(tmp_path) == [True, False, False]
    (tmp_path / "secrets/secret_key").write_text("key")
    (tmp_path / ".env").write_text("SITE_ADDRESS=shop.example\n")
    assert done(tmp_path) == [True, True, True]


@pytest.mark.parametrize("address", ["", "localhost", "http://localhost:8080", "http://:80", ":443", "127.0.0.1"])
def test_this_machine_is_no_domain(tmp_path, address):
    (tmp_path / ".env").write_text(f"SITE_ADDRESS={address}\n")
    assert done(tmp_path) == [False, False, False]
