"""A major upgrade of Postgres, from 17 to 18: the story of one production, in the order of the tests."""

import os
import re
import signal
import subprocess

import pytest

from slipway.proofs.faults.injection import Load
from slipway.proofs.harness import ROOT, Stack, copy_tree, free_port, unique, wait_until, with_probe

pytestmark = pytest.mark.containers

REFUSED = "The volume holds Postgres 17's data and this is 18: nothing is started, nothing is lost."
# Pinned to the minor version: a later 17 may write what an older 18 refuses.
IMAGES = {17: "postgres:17.11-trixie", 18: "postgres:18-trixie"}
TITLES = ["Grüße", "it's a\n\\.\nrow", "third"]


@pytest.fixture(scope="module")
def former() -> None:
    """The image of the former major version; without it, CI fails and other runs skip."""
    command = ["slipway/machine/bases/build", "python:3.14-slim-trixie", *IMAGES.values()]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        reason = f"there is no {IMAGES[17]}: {run.stdout}{run.stderr}".strip().splitlines()[-1]
        pytest.fail(reason) if "engine" in os.environ.get("REQUIRE", "") else pytest.skip(reason)


@pytest.fixture(scope="module")
def stack(former, tmp_path_factory):
    """Production of a release that pinned 17, with rows; then the release with 18 is pulled."""
    tree, project = with_probe(copy_tree(tmp_path_factory.mktemp("upgrade"))), unique("upgrade")
    image = f"slipway-test/{project}-postgres"  # this machine's postgres:17-trixie may be any 17
    for each in tree.glob("compose/*.yaml"):
        each.write_text(each.read_text().replace("${REGISTRY:-}postgres", image))
    base = tree / "compose/base.yaml"
    text = pulled = base.read_text()
    for new, old in {
        "${POSTGRES_MAJOR:-18}": "17",
        "    entrypoint: [/opt/slipway/postgres/start.sh]\n": "",
        "data:/var/lib/postgresql ": "data:/var/lib/postgresql/data ",
    }.items():
        assert new in text
        text = text.replace(new, old)
    base.write_text(text)
    ports = {"HTTP_PORT": free_port(), "HTTPS_PORT": free_port(), "PUBLISH_ADDRESS": "127.0.0.1"}
    stack = Stack(tree, project, **ports)
    try:
        for version, name in IMAGES.items():
            stack.run("docker", "tag", name, f"{image}:{version}-trixie")
        stack.make("init")
        stack.compose("up", "--build", "--detach", "--wait")
        for title in TITLES:
            assert write(stack, title) == 201
        base.write_text(pulled)
        yield stack
    finally:
        stack.destroy()


def write(stack, title):
    with stack.client() as client:
        return client.post("/probe/rows", json={"title": title}).status_code


def titles(stack):
    with stack.client() as client:
        return client.get("/probe/rows").raise_for_status().json()["titles"]


def major(stack):
    return stack.sql("SHOW server_version").split(".")[0]


def upgrade(stack, **options):
    return stack.make("upgrade-postgres", **options)


def files(stack):
    """Every path in the volume that belongs to 17, with its time of change."""
    return found(stack, "/volume", "-path", "/volume/18", "-prune", "-o", "-name", "PG_VERSION", "-printf", "%P %t\\n")


def found(stack, *expression):
    command = ["docker", "run", "--rm", "-v", f"{stack.project}_data:/volume:ro", IMAGES[17], "find", *expression]
    return sorted(stack.run(*command).stdout.splitlines())


def loaded(stack, method="GET", pause=0.02):
    certificate = stack.authority()
    return Load(f"https://localhost:{stack.environment['HTTPS_PORT']}/probe/rows", method, 1, pause, certificate)


def read_only(stack):
    return stack.sql("SHOW default_transaction_read_only") == "on"


def begun(stack):
    """An upgrade whose copy is under way, in its own process group."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    run = subprocess.Popen(["make", "upgrade-postgres"], cwd=stack.directory, env=stack.environment, **pipes)
    wait_until("the copy", lambda: read_only(stack) or run.poll() is not None)
    assert run.poll() is None, run.communicate()
    return run


@pytest.fixture
def volume(former):
    name = unique("volume")
    yield name
    subprocess.run(["docker", "volume", "rm", "--force", name], check=True, capture_output=True)


def start(volume, major, *command):
    """Starts the image as compose does, or runs a command in it."""
    entrypoint = "/opt/slipway/postgres/start.sh" if not command else command[0]
    return subprocess.run(
        ["timeout", "--signal=INT", "60", "docker", "run", "--rm", "--user", "999:999", "--entrypoint", entrypoint,
         "--volume", f"{volume}:/var/lib/postgresql", "--volume", f"{ROOT}/slipway/postgres:/opt/slipway/postgres:ro",
         "--env", "POSTGRES_PASSWORD=test", "--env", "POSTGRES_PASSWORD_FILE=", IMAGES[major],
         *(command[1:] or ["postgres", "-C", "data_directory"])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_data_in_a_directory_of_its_version_is_recognised_too(volume):
    made = start(volume, 17, "initdb", "--no-sync", "--pgdata=/var/lib/postgresql/17/docker")
    assert made.returncode == 0, made.stderr
    refused = start(volume, 18)
    assert (refused.returncode, refused.stderr.partition(" Run")[0]) == (1, REFUSED)
    assert start(volume, 17).stdout.splitlines()[-1] == "/var/lib/postgresql/17/docker"


def test_make_up_refuses_before_it_takes_17_away(stack):
    run = stack.make("up", check=False)
    assert run.returncode != 0
    assert "Postgres 17 runs and this release wants 18: run `make upgrade-postgres`" in run.stderr
    assert (major(stack), titles(stack)) == ("17", TITLES)


def test_a_schema_that_18_refuses_is_found_while_17_takes_writes(stack):
    """17.12 did this to 18.6, with an option of a column; no release will ever know the option used here."""
    option = "UPDATE pg_attribute SET attoptions = {} WHERE attrelid = 'probe'::regclass AND attname = 'title'"
    stack.sql(option.format("'{slipway=1}'"))
    with loaded(stack, "POST", pause=0.1) as writes:
        wait_until("load", lambda: len(writes.answers) > 5)
        run = upgrade(stack, check=False)
    stack.sql(option.format("NULL"))
    stack.sql("DELETE FROM probe WHERE title LIKE 'load %'")
    assert run.returncode != 0
    assert len(run.stderr.splitlines()) == 2, run.stderr  # the second is make's own
    assert re.match(
        r"make upgrade-postgres: Postgres 18\.\S+ refuses the schema of 17\.11: "
        r'ERROR:  unrecognized parameter "slipway"; use an image of Postgres 18 that is newer than the server; '
        r"Postgres 17 serves as before\.",
        run.stderr,
    ), run.stderr
    assert {status for _, status, _ in writes.answers} == {201}
    assert found(stack, "/volume/18", "-mindepth", "1") == []


def test_a_copy_that_dies_leaves_17_serving_and_writable(stack):
    run = begun(stack)
    stack.run("docker", "kill", f"{stack.project}-upgrade")
    _, error = run.communicate(timeout=120)
    assert run.returncode != 0
    assert "make upgrade-postgres: the step " in error
    assert "Postgres 17 serves as before." in error
    assert (major(stack), titles(stack)) == ("17", TITLES)
    assert write(stack, "after the first try") == 201


def test_a_volume_that_can_not_be_written_leaves_17_serving(stack):
    mount = f"{stack.project}_data:/volume"
    as_root = ["docker", "run", "--rm", "--user", "0", "--volume", mount, "--entrypoint", "sh", IMAGES[17]]
    stack.run(*as_root, "-c", "rm -rf /volume/18 && mkdir -m 755 /volume/18")
    run = upgrade(stack, check=False)
    stack.run(*as_root, "-c", "rmdir /volume/18")
    assert run.returncode != 0
    assert "the step schema failed" in run.stderr
    assert "Permission denied; Postgres 17 serves as before." in run.stderr
    assert len(run.stderr.splitlines()) == 2  # the second is make's own
    assert write(stack, "after the fault") == 201


def test_an_upgrade_that_is_killed_gives_17_back(stack):
    run = begun(stack)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    wait_until("17 takes writes again", lambda: write(stack, "after the second try") == 201)
    assert stack.sql("SHOW default_transaction_read_only") == "off"


def test_an_18_that_does_not_start_goes_back_to_17(stack):
    script = stack.directory / "slipway/postgres/start.sh"
    good = script.read_text()
    script.write_text(good.replace("set -eu", 'set -eu\n[ "$PG_MAJOR" = 17 ] || { echo "no luck" >&2; exit 1; }'))
    try:
        run = upgrade(stack, check=False)
    finally:
        script.write_text(good)
    assert run.returncode != 0
    assert "Postgres 18 does not start: no luck; Postgres 17 serves as before." in run.stderr
    assert major(stack) == "17"
    wait_until("the app writes", lambda: write(stack, "after the third try") == 201)


def test_a_plain_up_is_refused_and_starts_no_empty_database(stack):
    before = files(stack)
    run = stack.compose("up", "--detach", "--wait", check=False)
    assert run.returncode != 0
    assert "db-1 is unhealthy" in run.stderr or "db-1 exited" in run.stderr
    said = stack.compose("logs", "--no-log-prefix", "db").stdout.strip().splitlines()
    assert {line.partition(" Run `make upgrade-postgres`")[0] for line in said} == {REFUSED}
    assert files(stack) == before


def test_the_upgrade_keeps_rows_roles_and_privileges(stack):
    before = files(stack)
    run = upgrade(stack)
    print(run.stdout)
    assert major(stack) == "18"
    assert titles(stack) == [
        *TITLES,
        "after the first try",
        "after the fault",
        "after the second try",
        "after the third try",
    ]
    assert write(stack, "on 18") == 201
    assert files(stack) == before
    assert stack.sql("SHOW data_checksums") == "on"
    assert stack.sql("SHOW fsync") == "on"
    assert stack.sql("SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'probe'") == "t"
    rights = "has_table_privilege('web', 'probe', 'INSERT'), has_schema_privilege('web', 'public', 'CREATE')"
    assert stack.sql(f"SELECT {rights}, has_database_privilege('public', 'web', 'CONNECT')") == "t|f|f"
    assert stack.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'probe'") == "web_owner"
    assert stack.sql("SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolsuper") == "postgres"
    # The app can write to any table that the owner creates from now on.
    assert stack.sql("SELECT count(*) FROM pg_default_acl") == "2"
    assert stack.sql("SELECT DISTINCT auth_method FROM pg_hba_file_rules") == "scram-sha-256"


def test_a_second_run_says_that_there_is_nothing_to_do(stack):
    run = upgrade(stack)
    assert "There is nothing to do: the data is Postgres 18's." in run.stdout
    assert "forget 17" in run.stdout


def test_17_can_be_had_back_as_it_was(stack):
    stack.compose("up", "--detach", "--no-deps", "--wait", "db", env=stack.environment | {"POSTGRES_MAJOR": "17"})
    assert major(stack) == "17"
    wait_until("the app reads", lambda: titles(stack)[-1] == "after the third try")


def test_reads_go_on_while_the_rows_are_copied(stack, record_property):
    """Upgrades a running 17 once more, with more rows, and under load."""
    stack.compose("run", "--rm", "--no-deps", "-T", "--entrypoint", "rm", "db", "-r", "/var/lib/postgresql/18")
    stack.sql("INSERT INTO probe (title) SELECT 'row ' || n || repeat('x', 200) FROM generate_series(1, 200000) n")
    with loaded(stack) as reads, loaded(stack, "POST", pause=0.1) as writes:
        wait_until("load", lambda: len(reads.answers) > 20)
        out = upgrade(stack).stdout
        seen = len(writes.answers)
        wait_until("writes again", lambda: writes.answers[-1][1] == 201 and len(writes.answers) > seen + 5)
    print(out)
    for name, load in (("reads", reads), ("writes", writes)):
        bad = [(begun, begun + took) for begun, status, took in load.answers if not 200 <= status < 300]
        span = max((end for _, end in bad), default=0) - min((begin for begin, _ in bad), default=0)
        record_property("figure", f"{name}: {len(bad)} of {len(load.answers)} not served, within {span:.1f} s")
    assert {status for _, status, _ in reads.answers} <= {200, 502, 503}
    assert {status for _, status, _ in writes.answers} <= {201, 502, 503}
    accepted = writes.count(201)
    assert stack.sql("SELECT count(*) FROM probe WHERE title LIKE 'load %'") == str(accepted)


def test_the_former_data_goes_when_it_is_told_to(stack):
    stack.compose("exec", "-T", "db", "/opt/slipway/postgres/upgrade.sh", "forget", "17")
    assert files(stack) == []
    stack.compose("restart", "db")
    wait_until("Postgres", stack.postgres_answers)
    assert major(stack) == "18"
