"""Postgres as production runs it: who may do what, how it is asked, and who migrates."""

import subprocess

import pytest

pytestmark = pytest.mark.containers


@pytest.fixture
def db(production):
    return production


def as_app(stack, statement):
    """Runs it as the app's role, from the app's container, as an attacker inside it would."""
    code = (
        "import psycopg2, sys; c = psycopg2.connect(host='db', dbname='web', user='web',"
        " password=open('/run/secrets/web_password').read().strip());"
        " c.autocommit = True; k = c.cursor(); k.execute(sys.argv[1]); print(k.fetchall() if k.description else '')"
    )
    return stack.compose("exec", "-T", "web-a", "python", "-c", code, statement, check=False)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT rolpassword FROM pg_authid",
        "COPY notes TO PROGRAM 'id'",
        "CREATE TABLE mine (id int)",
        "DROP TABLE notes",
        "ALTER TABLE notes ADD COLUMN mine int",
        "CREATE ROLE mine SUPERUSER",
        "CREATE DATABASE mine",
        "SET ROLE web_owner",
        "CREATE EXTENSION file_fdw",
    ],
)
def test_the_apps_role_may_not(db, statement):
    run = as_app(db, statement)
    assert run.returncode != 0
    assert "permission denied" in run.stderr or "must be owner" in run.stderr


def test_the_apps_role_reads_and_writes_rows(db):
    assert as_app(db, "INSERT INTO notes (title, body) VALUES ('by the role', '')").returncode == 0
    assert as_app(db, "SELECT count(*) > 0 FROM notes").stdout.strip() == "[(True,)]"


def test_passwords_are_scram_everywhere_and_checksums_are_on(db):
    assert db.sql("SELECT DISTINCT auth_method FROM pg_hba_file_rules") == "scram-sha-256"
    assert db.sql("SELECT count(*) FROM pg_authid WHERE rolcanlogin AND rolpassword NOT LIKE 'SCRAM-SHA-256$%'") == "0"
    assert db.sql("SHOW data_checksums") == "on"


def test_no_role_but_the_superuser_is_one(db):
    assert db.sql("SELECT string_agg(rolname, ',') FROM pg_roles WHERE rolsuper OR rolcreaterole") == "postgres"


def test_a_wrong_password_is_refused_over_the_network_and_over_the_socket(db):
    for host in ("127.0.0.1", "/var/run/postgresql"):
        run = db.compose(
            "exec", "-T", "-e", "PGPASSWORD=wrong", "db", "psql", "-U", "web", "-h", host, "-c", "SELECT 1", "web",
            check=False,
        )  # fmt: skip
        assert "password authentication failed" in run.stderr


def test_two_migrators_at_once_both_succeed(db):
    tables = "SELECT string_agg(format('%I', tablename), ', ') FROM pg_tables WHERE schemaname = 'public'"
    db.sql(f"DROP TABLE {db.sql(tables)}")
    command = ["docker", "compose", "run", "--rm", "-T", "--no-deps", "migrate"]
    migrators = [
        subprocess.Popen(command, cwd=db.directory, env=db.environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [migrator.communicate(timeout=120)[0] for migrator in migrators]
    assert [migrator.returncode for migrator in migrators] == [0, 0, 0]
    assert sum("Running upgrade" in output for output in outputs) == 1
