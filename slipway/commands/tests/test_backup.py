"""`make backup` on the host: its files, whatever else writes there. The dump itself is simulated."""

import stat
import threading
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from slipway.commands import backup, init


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A checkout with the password of one database's owner."""
    for tool in (backup, init):
        monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(backup, "BACKUPS", tmp_path / "backups")
    monkeypatch.setattr(backup, "check", lambda path: backup.Contents("web", 1, 1))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/web_owner_password").write_text("secret\n")
    return tmp_path


def test_two_backups_of_one_second_have_a_file_each(tree, monkeypatch):
    both, turn, failures = threading.Barrier(2, timeout=5), count(), []

    class Clock:
        """A clock whose first two callers get the same second."""

        @staticmethod
        def now(zone):
            return datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=next(turn) // 2)

    def dump(service, path):
        both.wait()
        with backup.private(path) as file:
            file.write(b"rows")
        return "digest"

    def back_up():
        try:
            backup.dump_to_file("web")
        except Exception as error:
            failures.append(error)
            both.abort()

    monkeypatch.setattr(backup, "datetime", Clock)
    monkeypatch.setattr(backup, "dump", dump)
    threads = [threading.Thread(target=back_up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    first, second = "web-20261101T000000Z.dump", "web-20261101T000001Z.dump"
    assert {path.name for path in (tree / "backups").iterdir()} == {
        first, f"{first}.sha256", second, f"{second}.sha256"
    }  # fmt: skip


@pytest.mark.parametrize("command", [lambda: backup.dump_to_file("web"), init.make_backups])
def test_a_folder_of_backups_that_others_can_enter_is_closed_and_that_is_said(tree, monkeypatch, capsys, command):
    monkeypatch.setattr(backup, "dump", lambda service, path: "digest")
    (tree / "backups").mkdir(mode=0o755)
    (tree / "backups").chmod(0o755)
    command()
    assert stat.S_IMODE((tree / "backups").stat().st_mode) == 0o700
    assert "closed   backups/, which others could enter\n" in capsys.readouterr().out
