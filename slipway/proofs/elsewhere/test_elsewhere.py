"""Production on a Postgres elsewhere: Patroni on three nodes, with TLS, and PgBouncer before each.

The only difference from docs/deploy.md is the way there: the nodes are on the stack's networks.
"""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import httpx
import pytest

from slipway.proofs.forks.fork import Fork, complaint
from slipway.proofs.harness import Stack, ports, unique, wait_until, with_probe

pytestmark = [pytest.mark.containers, pytest.mark.alone]

NODES = ("pg1", "pg2", "pg3")
VERIFIED = "sslmode=verify-full&sslrootcert=/app/database_ca.crt"
DATABASE_URL = f"postgresql://{','.join(NODES)}/?{VERIFIED}&target_session_attrs=read-write"
ADMINISTRATOR = "CREATE ROLE administrator LOGIN CREATEROLE CREATEDB PASSWORD 'administrators-word'"
LIMIT = 15.0  # seconds from the primary's end to the next acknowledged write
DETECTED = 22.0  # seconds that Patroni takes to take a node for dead: it has a lease for 20 at least
MIGRATIONS = ["python", "-m", "chassis.db.migrations"]


class Nodes(Stack):
    """The database, as its provider sees it."""

    def __init__(self, stack: Stack) -> None:
        file = stack.directory / "slipway/proofs/elsewhere/nodes.yaml"
        settings = {"PROJECT": stack.project, "SUPERUSER_PASSWORD": "superusers-word"}
        super().__init__(stack.directory, unique("nodes"), COMPOSE_FILE=file, **settings)

    def start(self) -> None:
        self.compose("up", "--build", "--detach")
        wait_until("a primary with a synchronous standby", self.is_whole, 90)

    def members(self) -> dict[str, str]:
        """The role of each node, as one that answers sees it."""
        for node in NODES:
            listing = self.inside(node, "patronictl", "-c", "/data/patroni.yaml", "list", "--format", "json")
            if listing.returncode == 0 and listing.stdout.startswith("["):
                known = [each for each in json.loads(listing.stdout) if each["State"] in ("running", "streaming")]
                return {each["Member"]: each["Role"] for each in known}
        return {}

    def is_whole(self) -> bool:
        return sorted(self.members().values()) == ["Leader", "Replica", "Sync Standby"]

    def primary(self) -> str:
        return next((node for node, role in self.members().items() if role == "Leader"), "")

    def inside(self, node: str, *command: str) -> subprocess.CompletedProcess:
        return self.compose("exec", "-T", node, *command, check=False)

    def ask(self, statement: str, database: str = "postgres", node: str = "") -> str:
        run = self.inside(node or self.primary(), "psql", "-XqAt", "-U", "postgres", "-d", database, "-c", statement)
        assert run.returncode == 0, run.stderr
        return run.stdout.strip()


@dataclass
class Writers:
    """Writes without pause in four threads, each with a title of its own, until the block ends."""

    client: httpx.Client
    acknowledged: list[tuple[float, str]] = field(default_factory=list)  # when, and the title
    refused: list[int | str] = field(default_factory=list)

    def __enter__(self) -> "Writers":
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.write, args=(number,)) for number in range(4)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def write(self, writer: int) -> None:
        number = 0
        while not self.stopping.wait(0.1):
            number += 1
            title = f"{writer} {number} {id(self)}"
            try:
                status = self.client.post("/probe/rows", json={"title": title}).status_code
            except httpx.HTTPError as error:
                status = type(error).__name__
            if status == 201:
                self.acknowledged.append((time.monotonic(), title))
            else:
                self.refused.append(status)

    def since(self, moment: float) -> list[float]:
        return [when for when, _ in self.acknowledged if when > moment]

    def pause(self, moment: float) -> float:
        """The longest time without an acknowledged write after the moment, in seconds."""
        wait_until("writes after the failover", lambda: len(self.since(moment + 1)) > 100, 90)
        times = [moment, *sorted(self.since(moment))]
        return max(later - sooner for sooner, later in pairwise(times))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fork]:
    """Before its first deploy, with the networks on which the nodes are."""
    fork = Fork(tmp_path_factory.mktemp("elsewhere"), **ports())
    with_probe(fork.directory)
    try:
        fork.make("init")
        fork.compose("create", "listener", "db")
        yield fork
    finally:
        fork.destroy()


@pytest.fixture(scope="module")
def nodes(stack: Fork) -> Iterator[Nodes]:
    nodes = Nodes(stack)
    try:
        nodes.start()
        nodes.ask(ADMINISTRATOR)
        yield nodes
    finally:
        nodes.destroy()


def use(stack: Fork, url: str) -> None:
    """The one setting."""
    kept = [line for line in stack.read(".env").splitlines() if not line.startswith("DATABASE_URL=")]
    stack.write(".env", "\n".join([*kept, f"DATABASE_URL={url}"]) + "\n")


@pytest.fixture(scope="module")
def deployed(stack: Fork, nodes: Nodes) -> Fork:
    """What docs/deploy.md says: the CA, the setting, the roles, a deploy."""
    stack.write("docker/database_ca.crt", nodes.inside("pg1", "cat", "/tls/ca.crt").stdout)
    stack.commit("The database's CA")
    use(stack, DATABASE_URL)
    stack.compose("--profile", "none", "rm", "--stop", "--force", "db", "listener")
    make_roles(stack)
    stack.make("deploy")
    return stack


def make_roles(stack: Stack) -> None:
    login = ("--env", "PGUSER=administrator", "--env", "POSTGRES_PASSWORD=administrators-word")
    stack.compose("run", "--rm", *login, "roles")


def services(stack: Stack) -> set[str]:
    return {each["Config"]["Labels"]["com.docker.compose.service"] for each in stack.containers()}


def test_one_setting_leaves_out_db_roles_and_backup_and_every_verb_works_or_says_what_to_do(deployed, nodes):
    stack = deployed
    assert services(stack) == {"listener", "proxy", "web-a", "web-b"}
    with stack.client() as client:
        assert client.post("/probe/rows", json={"title": "first"}).status_code == 201
    assert nodes.ask("SELECT title FROM probe", "web") == "first"
    assert nodes.ask("SELECT DISTINCT version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'web'")
    psql = stack.make("psql", input="SELECT current_user, count(*) FROM probe;\n")
    assert " web_owner    |     1\n" in psql.stdout
    dump = """PGUSER=web_owner PGDATABASE=web PGPASSWORD=$(cat /run/secrets/web_owner_password) \\
        exec pg_dump --format custom --dbname "$DATABASE_URL\""""
    assert stack.compose("run", "--rm", "-T", "roles", "sh", "-c", dump, text=False).stdout.startswith(b"PGDMP")
    for verb in (["backup"], ["restore", "file=x"]):
        assert "elsewhere: its provider backs it up" in complaint(stack.make(*verb, check=False))
    assert "its provider upgrades it" in complaint(stack.make("upgrade-postgres", check=False))
    rotation = complaint(stack.make("rotate-secret", "s=web_password", check=False))
    assert "change the password of web there, then write it into secrets/web_password" in rotation
    assert "web-a" in stack.make("ps").stdout
    assert "BAD" not in stack.make("doctor", check=False).stdout
    stack.make("rotate-secret", "s=status_token")
    first = re.search("^TAG=(.+)", stack.read(".env"), re.MULTILINE)[1]
    stack.run("docker", "tag", stack.image(first), stack.image("two"))
    stack.make("deploy", "TAG=two")
    assert f"{first} serves" in stack.make("rollback").stdout
    stack.make("up")
    assert services(stack) == {"listener", "proxy", "web-a", "web-b", "migrate"}


def test_an_administrator_who_is_no_superuser_has_made_the_roles_and_may_do_it_again(deployed, nodes):
    make_roles(deployed)
    assert nodes.ask("SELECT rolname FROM pg_roles WHERE rolname ~ '^(web|admin)' AND rolsuper") == ""
    assert nodes.ask("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'web'") == "web_owner"
    assert nodes.ask("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'", "web") == "web_owner"


def started(stack: Stack) -> list[str]:
    return sorted(each["State"]["StartedAt"] for each in stack.containers())


def count_lost(nodes: Nodes, writers: Writers) -> int:
    there = nodes.ask(f"SELECT title FROM probe WHERE title LIKE '% {id(writers)}'", "web").splitlines()
    assert len(there) == len(set(there))
    return len({title for _, title in writers.acknowledged} - set(there))


def test_the_primary_is_killed_under_writes_and_none_that_was_acknowledged_is_lost(deployed, nodes, record_property):
    primary, began = nodes.primary(), started(deployed)
    with deployed.client() as client, Writers(client) as writers:
        wait_until("writes", lambda: len(writers.acknowledged) > 100)
        killed = time.monotonic()
        assert nodes.inside(primary, "sh", "-c", "kill -9 $(head -1 /data/postgres/postmaster.pid)").returncode == 0
        pause = writers.pause(killed)
    lost = count_lost(nodes, writers)
    figure = f"{pause:.1f} s without a write; {len(writers.acknowledged)} acknowledged, {lost} lost"
    record_property("figure", f"Postgres killed: {figure}, {len(writers.refused)} refused")
    assert nodes.primary() != primary
    assert (lost, started(deployed)) == (0, began)
    assert pause < LIMIT
    wait_until("three nodes", nodes.is_whole, 90)


@pytest.mark.parametrize(("end", "mend"), [("kill", "start"), ("pause", "unpause")], ids=["killed", "frozen"])
def test_a_node_is_lost_and_the_app_writes_as_soon_as_there_is_another_primary(
    deployed, nodes, record_property, end, mend
):
    """A frozen one still accepts connections, and never answers."""
    primary, began = nodes.primary(), started(deployed)
    with deployed.client() as client, Writers(client) as writers:
        wait_until("writes", lambda: len(writers.acknowledged) > 100)
        ended = time.monotonic()
        nodes.compose(end, primary)
        wait_until("another primary", lambda: nodes.primary() not in ("", primary), 60)
        promoted = time.monotonic()
        pause = writers.pause(ended)
    nodes.compose(mend, primary)
    # One that thaws takes itself for the primary until it has asked the others.
    wait_until(
        "a former primary that follows", lambda: nodes.ask("SELECT pg_is_in_recovery()", node=primary) == "t", 90
    )
    wait_until("three nodes", nodes.is_whole, 90)
    lost = count_lost(nodes, writers)
    after = f"{pause:.1f} s without a write, another primary after {promoted - ended:.1f} s"
    record_property("figure", f"node, {end}: {after}; {len(writers.acknowledged)} acknowledged, {lost} lost")
    assert (lost, started(deployed)) == (0, began)
    assert pause < DETECTED + LIMIT


def said(run: subprocess.CompletedProcess) -> str:
    """The only line above the level of information."""
    assert run.returncode == 69, run.stdout + run.stderr
    entries = [json.loads(line) for line in run.stdout.splitlines()]
    (line,) = [entry["message"] for entry in entries if entry["level"] not in ("INFO", "DEBUG")]
    return line


@pytest.mark.parametrize(
    ("former", "new", "why"),
    [
        ("/app/database_ca.crt", "/etc/ssl/certs/ca-certificates.crt", "has not signed Postgres's certificate"),
        (",".join(NODES), "nameless", "certificate is not for the host"),
        ("/app/database_ca.crt", "/app/missing.crt", "there is no CA to verify Postgres with"),
        (",".join(NODES), "pg1:6432", "add options= to DATABASE_URL"),
    ],
    ids=["wrong CA", "wrong name", "no CA", "pooler"],
)
def test_what_can_not_work_is_refused_in_one_line(deployed, nodes, former, new, why):
    url = DATABASE_URL.replace(former, new)
    assert why in said(
        deployed.compose("run", "--rm", "--no-deps", "-T", "--env", f"DATABASE_URL={url}", "migrate", check=False)
    )


def test_through_pgbouncer_in_transaction_mode_migrations_and_requests_work_and_leave_no_state(deployed, nodes):
    stack = deployed
    primary = nodes.primary()
    use(stack, f"postgresql://{primary}:6432/?{VERIFIED}&options=")
    run = ["run", "--rm", "--no-deps", "-T", "migrate", *MIGRATIONS]
    stack.compose(*run, "downgrade", "base")
    migrators = [
        subprocess.Popen(
            ["docker", "compose", *run, "upgrade"],
            cwd=stack.directory,
            env=stack.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [each.communicate(timeout=120)[0] for each in migrators]
    assert [each.returncode for each in migrators] == [0, 0, 0], outputs
    stack.make("deploy")
    with stack.client() as client, Writers(client) as writers:
        wait_until("writes", lambda: len(writers.acknowledged) > 200)
    assert (writers.refused, count_lost(nodes, writers)) == ([], 0)
    with stack.client() as client:
        assert client.get("/probe/rows").json()["total"] == len(writers.acknowledged)
    assert nodes.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", node=primary) == "0"
    clients = nodes.ask("SELECT DISTINCT client_addr FROM pg_stat_activity WHERE usename = 'web'", node=primary)
    assert clients == "127.0.0.1"  # PgBouncer's, and no other
