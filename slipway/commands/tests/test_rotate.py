"""`make rotate-secret`, interrupted at every step: what is left works, or the next run completes it. docker is a
stand-in that keeps the roles' passwords as Postgres would."""

import fcntl
import os
import resource
import signal
import sys
from types import SimpleNamespace

import pytest

from slipway.commands import rotate_secret
from slipway.commands.shared import compose, lock
from slipway.commands.shared.stop import Stop

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")

OLD = "the-former-one-of-thirty-two-characters-and-more"
DOCKER = """\
#!/bin/sh
# compose exec -T db /opt/slipway/postgres/roles.sh ROLE
[ ! -e before ] || { rm before; kill -9 $PPID; exit 1; }
role=$6 new=$(cat) was=$(cat role-$6)
[ "$new" ] || echo empty >sent
# As the superuser, by the password in its file, or by the one that it has got already.
[ "$(cat secrets/postgres_password)" = "$(cat role-postgres)" ] || [ $role-$new = postgres-$was ] || exit 1
printf %s "$new" >role-$role
[ ! -e after ] || { rm after; kill -9 $PPID; }
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A checkout's secrets, and Postgres with them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=":")
    for tool, name, value in (
        (rotate_secret, "ROOT", tmp_path), (rotate_secret, "DIRECTORY", tmp_path / "secrets"),
        (rotate_secret, "NOTICED", 0), (lock, "PRODUCTION", tmp_path / "lock"), (compose, "ROOT", tmp_path),
        (os, "fsync", lambda file: None),
    ):  # fmt: skip
        monkeypatch.setattr(tool, name, value)
    for folder in ("bin", "secrets"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin/docker").write_text(DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)
    return tmp_path


def reset(tree, length=0):
    for left in (tree / "secrets").iterdir():
        left.unlink()
    for name in ("web_password", "postgres_password", "secret_key"):
        (tree / "secrets" / name).write_text(OLD.ljust(length, "+") + "\n")
        (tree / f"role-{name.removesuffix('_password')}").write_text(OLD.ljust(length, "+"))


def run(name, room=None):
    """The exit code of a separate process, whose disk has no room for a file of more than that many bytes."""
    if not (child := os.fork()):
        code = 1
        try:
            if room is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            rotate_secret.rotate(name)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(tree, name):
    """Runs it, then restores, one by one, each state that a kill between two lines would have left."""
    states = {}

    def trace(frame, event, argument):
        if frame.f_code.co_filename != rotate_secret.__file__:
            return None
        files = [path for path in (*tree.glob("role-*"), *(tree / "secrets").iterdir()) if path.is_file()]
        states[tuple((path, path.read_bytes()) for path in sorted(files))] = None
        return trace

    sys.settrace(trace)
    try:
        rotate_secret.rotate(name)
    finally:
        sys.settrace(None)
    for state in states:
        for path in (tree / "secrets").iterdir():
            path.unlink()
        for path, content in state:
            path.write_bytes(content)
        yield
    assert len(states) > 2


def lines(tree, name):
    """What a reader gets from the file."""
    return (tree / "secrets" / name).read_text().strip().splitlines()


def assert_rotated(tree, name):
    (new,) = lines(tree, name)
    assert len(new) >= 32
    assert not new.startswith(OLD)
    assert (tree / f"role-{name.removesuffix('_password')}").read_text() == new
    assert [path.name for path in (tree / "secrets").glob(".*")] == []
    assert not (tree / "sent").exists()


@pytest.mark.parametrize(("name", "length"), [("web_password", 90), ("postgres_password", 0)])
def test_a_password_is_whole_at_every_step_and_the_next_run_completes_it(tree, name, length):
    reset(tree, length)
    for _ in killed(tree, name):
        (kept,) = lines(tree, name)
        assert len(kept) >= 32
        rotate_secret.rotate(name)
        assert_rotated(tree, name)


@pytest.mark.parametrize("name", ["web_password", "postgres_password"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_while_postgres_is_asked_is_completed(tree, name, moment):
    reset(tree)
    (tree / moment).touch()
    assert run(name) == -signal.SIGKILL
    assert run(name) == 0
    assert_rotated(tree, name)


def test_a_session_key_is_known_before_it_signs_whatever_is_killed(tree):
    reset(tree)
    for _ in killed(tree, "secret_key"):
        kept = lines(tree, "secret_key")
        assert OLD in kept
        assert all(len(each) >= 32 for each in kept)
        rotate_secret.rotate("secret_key")
        new, former = lines(tree, "secret_key")
        assert new not in kept
        assert former == kept[0]


@pytest.mark.parametrize("left", ["", "\n", "cut-off", "with spaces in it, and of some length"])
def test_a_prepared_password_that_is_none_is_never_sent(tree, left):
    reset(tree)
    (tree / "secrets/.web_password.next").write_text(left)
    assert run("web_password") == 0
    assert_rotated(tree, "web_password")


@pytest.mark.parametrize("name", ["web_password", "secret_key"])
@pytest.mark.parametrize("room", [0, 20])
def test_a_full_disk_changes_nothing_and_leaves_nothing_empty(tree, name, room):
    reset(tree)
    assert run(name, room=room) == 1
    assert lines(tree, name) == [OLD]
    assert (tree / "role-web").read_text() == OLD
    assert [path.name for path in (tree / "secrets").glob(".*")] == []


def test_beside_a_deploy_it_is_refused(tree):
    reset(tree)
    with (tree / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Stop, match="under way: wait for it to end"):
            rotate_secret.rotate("web_password")
    assert lines(tree, "web_password") == [OLD]


def test_the_first_line_signs_and_what_was_cut_off_is_no_key(tree, monkeypatch):
    monkeypatch.setattr(rotate_secret, "time", SimpleNamespace(sleep=lambda seconds: None))
    (tree / "secrets/secret_key").write_text(f"cut\n{OLD}\n")
    rotate_secret.rotate_key(tree / "secrets/secret_key")
    new, former = lines(tree, "secret_key")
    assert (len(new), former) == (43, OLD)


def test_what_others_have_made_is_not_replaced(tree):
    (tree / "secrets/alert_webhook_url").write_text("https://hooks.example.com/token\n")
    with pytest.raises(Stop, match="made by others: write theirs into the file"):
        rotate_secret.rotate("alert_webhook_url")
    assert (tree / "secrets/alert_webhook_url").read_text() == "https://hooks.example.com/token\n"
