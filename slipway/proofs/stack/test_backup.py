"""Backup and restore, on a production stack: what was saved comes back, and an unusable backup is refused
before anything is touched."""

import json
import os
import pty
import re
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from slipway.proofs.harness import Stack, copy_tree, ports, started, unique, wait_until, with_probe

pytestmark = pytest.mark.containers

SCRIPT = "/opt/slipway/postgres/backup.sh"
ROWS = "/probe/rows"


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A separate production with two rows of the probe, since the tests remove its database and its volume."""
    tree = with_probe(copy_tree(tmp_path_factory.mktemp("backup")))
    with started(Stack(tree, unique("backup"), **ports())) as stack:
        with stack.client() as client:
            for title in ("First", "Second"):
                assert client.post(ROWS, json={"title": title}).status_code == 201
        yield stack


@pytest.fixture(scope="module")
def dump(stack):
    """A good archive of them."""
    return backup(stack)


def backup(stack) -> Path:
    printed = stack.make("backup").stdout
    return stack.directory / printed.split(":")[0]


def restore(stack, path, **options):
    return stack.make("restore", f"file={path}", "yes=1", **options)


def refusal(run) -> str:
    """The one line of a failed command; make adds another."""
    assert run.returncode != 0, run.stdout
    lines = [line for line in run.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1, run.stderr
    return lines[0]


def titles(stack) -> list[str]:
    return stack.sql("SELECT title FROM probe ORDER BY id").splitlines()


def holds(stack) -> str:
    """What a dump taken now should report as its contents."""
    tables = stack.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").split()
    rows = sum(int(stack.sql(f'SELECT count(*) FROM "{table}"')) for table in tables)
    return f"{len(tables)} tables with {rows} rows"


def databases(stack) -> set[str]:
    return set(stack.sql("SELECT datname FROM pg_database WHERE NOT datistemplate", "postgres").split())


def files(directory) -> set[str]:
    """Those but what the schedule tells Prometheus, again and again."""
    return {path.name for path in directory.iterdir() if path.is_file() and not path.name.startswith(".backup.prom")}


def damaged(dump, directory, change, checksum=False) -> Path:
    """A copy whose bytes `change` has altered, with the good archive's checksum or without one."""
    path = directory / "web-damaged.dump"
    content = bytearray(dump.read_bytes())
    change(content)
    path.write_bytes(content)
    if checksum:
        path.with_name(f"{path.name}.sha256").write_text(dump.with_name(f"{dump.name}.sha256").read_text())
    return path


def flip(content, position):
    for i in range(position, position + 8):
        content[i] ^= 0xFF


def cut(content):
    del content[-20:]


def flip_a_row(content):
    flip(content, content.rindex(b"\x78\x9c") + 20)  # zlib's header: where the last table's rows begin


def rename_a_column(content):
    content[:] = content.replace(b"title character varying", b"titlf character varying")


def empty(content):
    content.clear()


def as_text(content):
    content[:] = b"CREATE TABLE probe (id bigint);\n"


def test_a_backup_is_verified_private_and_says_what_it_holds(stack, dump):
    again = stack.make("backup").stdout
    assert re.fullmatch(rf"backups/web-\d{{8}}T\d{{6}}Z\.dump: [\d.]+ kB, {holds(stack)}, in [\d.]+ s\n", again)
    assert stat.S_IMODE(dump.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600
    stack.run("sh", "-c", f"cd backups && sha256sum --check {dump.name}.sha256")
    assert not [name for name in files(dump.parent) if "unfinished" in name]
    assert "backups" in (stack.directory / ".gitignore").read_text()


def test_backup_volume_destroyed_restore_the_same_rows_and_no_restart(stack):
    path = backup(stack)
    before, held = stack.sql("SELECT probe::text FROM probe ORDER BY id"), holds(stack)
    stack.compose("down", "--volumes")
    stack.compose("up", "--detach", "--wait")
    assert titles(stack) == []
    started = {c["Name"]: c["State"]["StartedAt"] for c in stack.containers() if "web-" in c["Name"]}

    with Visitor(stack) as visitor:
        said = restore(stack, path).stdout
        wait_until("the rows over the proxy", lambda: visitor.sees("Second"))

    assert stack.sql("SELECT probe::text FROM probe ORDER BY id") == before
    assert f"Restored {held}" in said
    assert int(re.search(r"without a database for (\d+) ms", said)[1]) < 5000
    assert set(visitor.answers) <= {200, 503}
    assert visitor.answers.count(200) > visitor.answers.count(503)
    assert started == {c["Name"]: c["State"]["StartedAt"] for c in stack.containers() if "web-" in c["Name"]}
    with stack.client() as client:
        assert client.post(ROWS, json={"title": "Third"}).status_code == 201
    stack.sql("DELETE FROM probe WHERE title = 'Third'")


class Visitor:
    """A client that reads the rows through the proxy continuously."""

    def __init__(self, stack):
        self.stack, self.answers, self.last, self.done = stack, [], "", threading.Event()
        self.thread = threading.Thread(target=self.read)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def read(self):
        with self.stack.client() as client:
            while not self.done.wait(0.02):
                answer = client.get(ROWS)
                self.answers.append(answer.status_code)
                self.last = answer.text

    def sees(self, text):
        return text in self.last


@pytest.mark.parametrize(
    ("change", "checksum"),
    [
        (cut, False),
        (cut, True),
        (flip_a_row, False),
        (flip_a_row, True),
        (rename_a_column, True),  # pg_restore itself would accept it
        (empty, False),
        (as_text, False),
    ],
)
def test_a_damaged_archive_is_refused_before_anything_is_touched(stack, dump, tmp_path, change, checksum):
    path = damaged(dump, tmp_path, change, checksum)
    assert path.read_bytes() != dump.read_bytes()
    before, rows = databases(stack), titles(stack)
    line = refusal(restore(stack, path, check=False))
    assert str(path) in line
    assert "nothing was changed" in line
    assert databases(stack) == before
    assert titles(stack) == rows


def test_an_archive_of_another_database_is_refused(stack, dump):
    run = stack.make("restore", f"file={dump}", "s=billing", "yes=1", check=False)
    assert "holds the database web, not billing" in refusal(run)


def test_a_restore_that_fails_midway_loses_nothing_and_leaves_nothing(stack):
    stack.sql("CREATE ROLE auditor; GRANT SELECT ON probe TO auditor")
    path = backup(stack)
    stack.sql("REVOKE SELECT ON probe FROM auditor; DROP ROLE auditor")
    before, rows = databases(stack), titles(stack)
    line = refusal(restore(stack, path, check=False))
    assert 'role "auditor" does not exist' in line
    assert "serves as before" in line
    assert databases(stack) == before
    assert titles(stack) == rows


def password_of(stack, role):
    return (stack.directory / f"secrets/{role}_password").read_text().strip()


def test_an_interrupted_restore_can_be_run_again(stack, dump):
    for step in (["select"], ["load", "web", "web_restore_cut_off"]):
        cut_off = subprocess.run(
            ["docker", "compose", "exec", "-T", "--env", "OWNER_PASSWORD", "db", SCRIPT, *step],
            cwd=stack.directory,
            env=stack.environment | {"OWNER_PASSWORD": password_of(stack, "web_owner")},
            input=dump.read_bytes()[:-20],
            capture_output=True,
            check=False,
        )
    assert cut_off.returncode != 0
    assert "web_restore_cut_off" in databases(stack)
    restore(stack, dump)
    assert not [name for name in databases(stack) if "_restore_" in name]


def test_the_former_database_is_kept_and_the_commands_to_go_back_and_to_drop_it_work(stack, dump):
    with stack.client() as client:
        made = client.post(ROWS, json={"title": "Written after the backup"})
        assert made.status_code == 201
        drop, swap = re.findall(r"docker compose exec db (.*)", restore(stack, dump).stdout)
        assert titles(stack) == ["First", "Second"]

        replaced = stack.compose("exec", "-T", "db", *swap.split()).stdout.split()[0]
        assert "Written after the backup" in titles(stack)
        wait_until("the row again", lambda: client.get(made.headers["location"]).status_code == 200)
        stack.sql("DELETE FROM probe WHERE title = 'Written after the backup'")

    kept = drop.split()[-1]
    assert kept not in databases(stack)  # it is `web` now
    stack.compose("exec", "-T", "db", SCRIPT, "drop", replaced)
    assert replaced not in databases(stack)
    assert stack.compose("exec", "-T", "db", SCRIPT, "drop", "web", check=False).returncode != 0


def test_after_a_restore_the_roles_can_do_what_they_could_and_no_more(stack, dump):
    restore(stack, dump)
    as_role = ["psql", "-XqAt", "-h", "127.0.0.1", "-d", "web"]

    def run(role, statement):
        login = ["--env", f"PGPASSWORD={password_of(stack, role)}", "db", *as_role, "-U", role]
        return stack.compose("exec", "-T", *login, "-c", statement, check=False)

    assert "permission denied for schema public" in run("web", "CREATE TABLE mine (id int)").stderr
    assert run("web", "INSERT INTO probe (title) VALUES ('By the app')").returncode == 0
    assert run("web_owner", "CREATE TABLE made_later (id bigint GENERATED BY DEFAULT AS IDENTITY)").returncode == 0
    assert run("web", "INSERT INTO made_later DEFAULT VALUES; DELETE FROM made_later").returncode == 0
    assert run("web", "TRUNCATE made_later").returncode != 0
    assert run("web_owner", "DROP TABLE made_later; DELETE FROM probe WHERE title = 'By the app'").returncode == 0
    stack.compose("run", "--rm", "--no-deps", "migrate")
    privileges = "SELECT datacl FROM pg_database WHERE datname = 'web'"
    assert stack.sql(privileges) == "{web_owner=CTc/web_owner,web=c/web_owner}"


def test_an_older_backup_is_migrated_before_a_request_meets_it(stack, dump):
    restore(stack, dump)
    migrations = ["run", "--rm", "--no-deps", "migrate", "python", "-m", "chassis.db.migrations"]
    stack.compose(*migrations, "downgrade")
    older = backup(stack)
    stack.compose(*migrations, "upgrade")
    with Visitor(stack) as visitor:
        assert "migrations included" in restore(stack, older).stdout
        wait_until("an empty list", lambda: visitor.sees('"titles":[]'))
    assert set(visitor.answers) <= {200, 503}
    restore(stack, dump)


def test_a_backup_of_a_later_release_is_taken_as_it_is(stack, dump):
    stack.sql("UPDATE alembic_version SET version_num = 'of_a_later_release'")
    later = backup(stack)
    assert "a later release's" in restore(stack, later).stdout
    assert titles(stack) == ["First", "Second"]
    restore(stack, dump)


def test_an_extension_that_only_a_superuser_may_create_is_no_obstacle(stack, dump):
    """The extension is in database.sql; its comment, which is in every dump, may only be set by the superuser."""
    script = stack.directory / "docker/database.sql"
    written = script.read_text()
    stack.sql("CREATE EXTENSION pg_stat_statements")
    script.write_text(written + "CREATE EXTENSION pg_stat_statements;\n")
    try:
        restore(stack, backup(stack))
    finally:
        script.write_text(written)
    assert stack.sql("SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'") == "1"
    restore(stack, dump)


def test_without_a_terminal_it_does_not_replace_a_database(stack, dump):
    before = databases(stack)
    run = stack.make("restore", f"file={dump}", check=False, stdin=subprocess.DEVNULL)
    assert "yes=1" in refusal(run)
    assert databases(stack) == before


@pytest.mark.parametrize(("typed", "restored"), [("no", False), ("web", True)])
def test_on_a_terminal_the_databases_name_must_be_typed(stack, dump, typed, restored):
    before = databases(stack)
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        ["make", "restore", f"file={dump}"], cwd=stack.directory, env=stack.environment,
        stdin=end, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    os.close(end)
    os.write(terminal, f"{typed}\n".encode())  # the terminal keeps it until it is asked for
    said, _ = process.communicate(timeout=120)
    os.close(terminal)
    assert "Type web to replace the database web" in said
    assert (process.returncode == 0) == restored, said
    assert (databases(stack) != before) == restored


def test_a_full_disk_leaves_nothing_half_written(stack):
    before = files(stack.directory / "backups")
    run = stack.run("bash", "-c", "ulimit -f 1; exec python3 -m slipway.commands backup s=web", check=False)
    assert "backups" in refusal(run)
    assert files(stack.directory / "backups") == before


def test_what_an_exec_leaves_behind_is_no_crash_of_postgres(stack):
    """As PID 1, Postgres would adopt the process, and restart when it dies."""
    backend = stack.sql("SELECT min(backend_start) FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
    stack.compose("exec", "-T", "db", "bash", "-c", "(sleep 60 & echo $! >/tmp/orphan); kill $(cat /tmp/orphan)")
    with stack.client() as client:
        assert client.get(ROWS).status_code == 200
    assert backend == stack.sql("SELECT min(backend_start) FROM pg_stat_activity WHERE backend_type = 'checkpointer'")


def test_the_profile_dumps_verifies_rotates_and_is_healthy(stack):
    directory = stack.directory / "backups/scheduled"
    stack.environment |= {"BACKUP_INTERVAL": "2", "BACKUP_KEEP": "2", "COMPOSE_PROFILES": "backup"}
    (directory / "web-of-mine.dump").write_text("not theirs to rotate")
    stack.compose("up", "--detach", "--wait", "backup")

    def lines():
        return [json.loads(line) for line in stack.compose("logs", "--no-log-prefix", "backup").stdout.splitlines()]

    wait_until("a rotation", lambda: any(line.get("removed") for line in lines()), 60)
    stack.compose("stop", "db")
    wait_until("a failure", lambda: lines()[-1]["level"] == "ERROR", 60)
    left = files(directory)
    failures = len(lines())
    wait_until("two more failures", lambda: len(lines()) > failures + 1, 60)
    assert files(directory) == left  # a failed dump deletes nothing
    wait_until("unhealthy", lambda: not healthy(stack), 30)
    stack.compose("up", "--detach", "--wait", "db")
    wait_until("the next backup", lambda: lines()[-1].get("rows"), 60)
    assert healthy(stack)

    began = time.monotonic()
    stack.compose("stop", "backup")
    assert time.monotonic() - began < 5  # not the 10 s after which it would be killed
    assert lines()[-1]["message"] == "stopped"
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines())

    kept = sorted(directory.glob("web-*Z.dump"))
    assert len(kept) == 2
    assert files(directory) == {"web-of-mine.dump", *(f"{path.name}{end}" for path in kept for end in ("", ".sha256"))}
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700
    told = re.findall(r'newest_timestamp_seconds\{database="web"\} (\d+)', (directory / ".backup.prom").read_text())
    assert int(told[0]) in {int(path.stat().st_mtime) for path in kept}
    restore(stack, kept[-1])
    assert titles(stack) == ["First", "Second"]
    wait_until("the rows over the proxy", lambda: stack.client().get(ROWS).status_code == 200)


def test_dumps_from_a_clock_that_was_ahead_neither_count_nor_push_others_out(stack):
    directory = stack.directory / "backups/scheduled"
    stack.environment |= {"BACKUP_INTERVAL": "3600", "BACKUP_KEEP": "2", "COMPOSE_PROFILES": "backup"}
    ahead = [directory / f"web-2999010{day}T000000Z.dump" for day in (1, 2)]
    for path in ahead:
        path.touch()
        os.utime(path, (32503680000, 32503680000))
    for path in set(directory.glob("web-2*Z.dump")) - set(ahead):
        path.unlink()
    try:
        stack.compose("up", "--detach", "--wait", "--wait-timeout", "60", "backup")
        (made,) = set(directory.glob("web-2*Z.dump")) - set(ahead)
        made.unlink()
        assert not healthy(stack)
    finally:
        for path in ahead:
            path.unlink(missing_ok=True)
        stack.compose("stop", "backup")


def test_scheduled_backups_of_one_second_have_a_file_each(stack):
    directory = stack.directory / "backups/scheduled"
    before = files(directory)
    keep = "for turn in 1 2; do /opt/slipway/postgres/backup.sh keep web & done; wait -n; wait -n"
    options = ["run", "--rm", "-T", "--no-deps", "--env", "BACKUP_KEEP=9"]
    stack.compose(*options, "backup", "bash", "-euc", keep, env=stack.environment | {"COMPOSE_PROFILES": "backup"})
    made = files(directory) - before
    assert len(made) == 4, made
    stack.run("sh", "-c", f"cd {directory} && sha256sum --check {' '.join(m for m in made if m.endswith('256'))}")


def healthy(stack):
    """Runs the container's health check now instead of at its next minute."""
    return stack.compose("exec", "-T", "backup", SCRIPT, "healthy", check=False).returncode == 0


def test_the_profile_runs_with_no_right_that_it_does_not_need(stack):
    container = stack.container("backup")
    host, config = container["HostConfig"], container["Config"]
    assert config["User"] == "999:999"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["PortBindings"]
    assert {mount["Type"] for mount in container["Mounts"]} == {"bind"}  # no volume that a `down` leaves behind
    assert list(container["NetworkSettings"]["Networks"]) == [f"{stack.project}_back"]
    password = (stack.directory / "secrets/web_owner_password").read_text().strip()
    assert password not in json.dumps(container)


def test_without_a_database_both_say_so_in_one_line(stack, dump):
    before = files(stack.directory / "backups")
    stack.compose("stop", "db")
    try:
        for run in (stack.make("backup", check=False), restore(stack, dump, check=False)):
            assert "the database is not running: start it with" in refusal(run)
        assert files(stack.directory / "backups") == before
    finally:
        stack.compose("up", "--detach", "--wait", "db")
    with stack.client() as client:
        wait_until("the rows", lambda: client.get(ROWS).status_code == 200)
