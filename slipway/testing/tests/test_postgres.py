"""The Postgres of tests and of native development: what other users of the machine may do with it."""

import stat

import psycopg2
import pytest

from chassis_testing.postgres import Postgres, PostgresError


def test_its_password_is_its_own_and_in_a_file_for_this_user_alone(postgres, tmp_path):
    file = postgres.data / "password"
    assert len(file.read_text()) > 40
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list(postgres.directory.glob("password"))
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(host="127.0.0.1", port=postgres.port, user="postgres", password="dev-only-password")


def test_a_cluster_of_an_older_release_gets_one_and_keeps_its_rows(tmp_path):
    with Postgres(tmp_path, durable=False) as former:
        former.execute("CREATE TABLE kept ()")
        former.execute("ALTER ROLE postgres PASSWORD 'dev-only-password'")
    (former.data / "password").unlink()
    with pytest.raises(PostgresError, match="of an older release"):
        _ = Postgres(tmp_path).password
    with Postgres(tmp_path, durable=False) as later:
        assert later.execute("SELECT count(*) FROM kept") == [(0,)]
        assert later.password not in later.log.read_text()


def test_what_makes_its_roles_leaves_no_password_in_its_log(postgres, monkeypatch):
    monkeypatch.setenv("PGOPTIONS", "-c log_statement=all")
    postgres.create("logged")
    log = postgres.log.read_text()
    assert 'ALTER SCHEMA public OWNER TO "logged_owner"' in log
    assert postgres.password not in log
