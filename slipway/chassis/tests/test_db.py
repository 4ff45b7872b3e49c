"""On a real Postgres, stopped and frozen for real."""

import os
import signal
import socket
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace

import psycopg2
import pytest
import sqlalchemy
from flask import Flask
from sqlalchemy import text

from chassis.db import absence, migrations, waits
from chassis.db import engine as engines
from chassis.db.engine import create_engine
from chassis.settings import Settings
from chassis.web import database
from chassis.web.database import session
from chassis_testing.postgres import Postgres


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of this module's own, since a test may freeze it for a while."""
    with Postgres(tmp_path_factory.mktemp("own"), durable=False) as server:
        server.create("own")
        yield server


@pytest.fixture
def own(server):
    """The server, and settings whose bounds are short."""
    bounds = {"DATABASE_STATEMENT_TIMEOUT": "0.5", "DATABASE_CONNECT_TIMEOUT": "1"}
    environ = {"APP_ENV": "test", "SECRET_KEY": "k", "DATABASE_URL": server.address("own").url, **bounds}
    return server, Settings.load(environ)


def test_a_slow_statement_is_cancelled_by_postgres(own):
    _, settings = own
    with (
        create_engine(settings).connect() as connection,
        pytest.raises(sqlalchemy.exc.OperationalError) as error,
    ):
        connection.execute(text("SELECT pg_sleep(5)"))
    assert "statement timeout" in waits.reason(error.value)


def test_a_wait_is_announced_where_waits_of_late_were_long(own, monkeypatch):
    _, settings = own
    heard = []
    monkeypatch.setattr(waits, "QUICK", 0.01)  # more than a busy machine adds to a short wait
    monkeypatch.setattr(waits._Bounds, "usual", 0.0)
    monkeypatch.setattr(waits._Bounds, "announce", lambda: heard.append("a wait"))
    with create_engine(settings).connect() as connection:
        for _ in range(100):
            connection.execute(text("SELECT 1"))
        heard.clear()
        connection.execute(text("SELECT pg_sleep(0.4)"))
        assert heard == []
        connection.execute(text("SELECT 1"))
        assert heard == ["a wait"]


def test_many_rows_take_as_long_as_they_take_each_within_its_bound(own, monkeypatch):
    _, settings = own
    monkeypatch.setattr(waits, "WAIT_MARGIN", -0.2)
    with create_engine(settings).connect() as connection:
        ran = connection.connection.cursor()
        ran.executemany("SELECT pg_sleep(%s)", [(0.1,)] * 8)
        assert ran.rowcount == 8


def test_rows_may_be_asked_of_the_database_while_a_statement_takes_them(own, monkeypatch):
    _, settings = own
    monkeypatch.setattr(waits, "WAIT_MARGIN", -0.2)

    def rows(asked):
        for _ in range(4):
            asked.execute("SELECT pg_sleep(0.1)")
            yield (0.1,)

    engine = create_engine(settings)
    with engine.connect() as first, engine.connect() as second:
        taking = first.connection.cursor()
        taking.executemany("SELECT pg_sleep(%s)", rows(second.connection.cursor()))
        assert taking.rowcount == 4


def test_rows_that_the_server_keeps_come_in_batches(own):
    _, settings = own
    with create_engine(settings).connect() as connection:
        rows = connection.execution_options(yield_per=10).execute(text("SELECT generate_series(1, 95)"))
        assert rows.scalars().all() == list(range(1, 96))


def test_a_frozen_server_is_given_up_and_used_again_when_it_thaws(own):
    server, settings = own
    engine = create_engine(settings)
    with engine.connect() as connection:
        backend = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    pids = processes(server)
    assert backend in pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with (
            pytest.raises(sqlalchemy.exc.OperationalError, match="did not answer in time"),
            engine.connect() as connection,
        ):
            connection.execute(text("SELECT 1"))
        assert time.monotonic() - started < 10
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_an_answer_is_not_lost_to_a_server_that_freezes_before_the_rollback(own):
    server, settings = own
    app = Flask("own")
    database.init_app(app, settings)
    frozen = set()

    @app.get("/")
    def read() -> str:
        value = session().execute(text("SELECT 'read'")).scalar()
        frozen.update(processes(server))
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        return value

    try:
        assert app.test_client().get("/").text == "read"
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)


def processes(server: Postgres) -> set[int]:
    """All of the server's processes, except the one that answered."""
    others = server.execute("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    return {server.process.pid, *(pid for (pid,) in others)}


def test_a_restart_while_idle_is_no_error(own):
    server, settings = own
    engine = create_engine(settings)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    server.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'own'")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


@pytest.fixture
def resolver(monkeypatch):
    """`error` is what it says to libpq from now on; `addresses`, what each attempt was given in its place."""
    found, connect = SimpleNamespace(error=None, addresses=[]), psycopg2.connect

    def look_up(*arguments, **parameters):
        found.addresses.append(parameters.get("hostaddr"))
        if found.error and "hostaddr" not in parameters:
            raise psycopg2.OperationalError(f'could not translate host name "db" to address: {found.error}')
        return connect(*arguments, **parameters)

    monkeypatch.setattr(psycopg2, "connect", look_up)
    return found


def test_while_the_resolver_says_nothing_a_new_connection_goes_where_the_database_was(own, resolver, monkeypatch):
    _, settings = own
    engine = create_engine(settings)
    engine.connect().close()
    resolver.error = "Temporary failure in name resolution"
    with engine.connect(), engine.connect() as second:
        assert second.execute(text("SELECT 1")).scalar() == 1
    monkeypatch.setattr(waits.LastAddress, "TRUST", -1.0)  # no server has answered there for long
    with engine.connect(), engine.connect(), pytest.raises(sqlalchemy.exc.OperationalError):
        engine.connect()
    assert resolver.addresses == [None, None, "127.0.0.1", None]


def test_a_database_whose_name_is_gone_is_not_looked_for_where_it_was(own, resolver):
    _, settings = own
    engine = create_engine(settings)
    with engine.connect():
        resolver.error = "Name or service not known"
        with pytest.raises(sqlalchemy.exc.OperationalError):
            engine.connect()
    assert resolver.addresses == [None, None]


def test_a_fork_knows_where_the_database_was(own, resolver):
    _, settings = own
    engine = create_engine(settings)
    engine.connect().close()
    resolver.error = "Temporary failure in name resolution"
    if (child := os.fork()) == 0:
        with suppress(BaseException), engine.connect() as connection:
            os._exit(connection.execute(text("SELECT 7")).scalar())
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_connection_is_tried_after_a_rest_but_not_between_two_requests_of_a_busy_app(own, monkeypatch):
    _, settings = own
    engine = create_engine(settings)
    tried = []
    ping = engine.dialect.do_ping
    monkeypatch.setattr(engine.dialect, "do_ping", lambda connection: tried.append(1) or ping(connection))
    for _ in range(3):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    assert tried == []
    monkeypatch.setattr(engines, "IDLE", 0.0)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert tried == [1]


def test_a_tighter_bound_holds_inside_within(own):
    _, settings = own
    engine = create_engine(settings)
    with (
        engine.connect() as connection,
        waits.within(0.1),
        pytest.raises(sqlalchemy.exc.OperationalError),
    ):
        connection.execute(text("SELECT pg_sleep(0.4)"))


def test_a_forked_child_opens_connections_of_its_own(own):
    _, settings = own
    engine = create_engine(settings)

    def backend():
        with engine.connect() as connection:
            return connection.execute(text("SELECT pg_backend_pid()")).scalar()

    parents = backend()
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, str(backend()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reader, 64)) != parents
    assert backend() == parents


def test_an_unreachable_database_is_503_with_retry_after(app, client):
    @app.get("/rows")
    def rows():
        raise sqlalchemy.exc.OperationalError("SELECT secret", {}, Exception("connection refused"))

    answer = client.get("/rows")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert "secret" not in answer.text
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]


def test_a_write_to_a_read_only_database_is_503_too(app, client):
    @app.get("/write")
    def write():
        session().execute(text("SET TRANSACTION READ ONLY"))
        session().execute(text("CREATE TABLE refused ()"))

    answer = client.get("/write")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"


def test_a_request_gives_its_connection_back(app, client):
    @app.get("/one")
    def one():
        return str(session().execute(text("SELECT 1")).scalar())

    assert client.get("/one").text == "1"
    assert app.extensions["database"].engine.pool.checkedout() == 0


def test_a_statement_carries_the_requests_id(app, client):
    @app.get("/query")
    def query():
        return session().execute(text("SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()")).scalar()

    answer = client.get("/query", headers={"X-Request-ID": "seen-in-postgres"})
    assert answer.text.startswith("/* request_id=seen-in-postgres */")


def test_a_request_waits_for_a_server_that_restarts_and_not_for_one_that_is_gone(own, monkeypatch):
    _, settings = own
    away = absence.Absence()
    engine = create_engine(settings, away)
    connect, attempts = psycopg2.connect, []

    def starting(*arguments, **parameters):
        attempts.append(1)
        if len(attempts) < 4:
            raise psycopg2.OperationalError("FATAL:  the database system is starting up")
        return connect(*arguments, **parameters)

    monkeypatch.setattr(psycopg2, "connect", starting)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    assert len(attempts) == 4

    monkeypatch.setattr(absence, "WAITED_OUT", 0.0)
    away.note(time.monotonic() - 1, silent=False)
    with engine.connect() as connection:  # a connection that works keeps working
        assert connection.execute(text("SELECT 1")).scalar() == 1
        with pytest.raises(sqlalchemy.exc.OperationalError):
            engine.connect()
    assert len(attempts) == 4
    away.end()
    with engine.connect(), engine.connect():
        assert len(attempts) == 5


def test_a_refusal_that_no_wait_ends_is_told_at_once(own, monkeypatch):
    _, settings = own
    engine = create_engine(settings, absence.Absence())
    attempts = []

    def full(*arguments, **parameters):
        attempts.append(1)
        raise psycopg2.OperationalError('FATAL:  too many connections for role "web"')

    monkeypatch.setattr(psycopg2, "connect", full)
    with pytest.raises(sqlalchemy.exc.OperationalError):
        engine.connect()
    assert len(attempts) == 1


def test_what_waits_for_a_silent_server_is_ended_and_its_connections_are_replaced(own, monkeypatch):
    _, settings = own
    settings = replace(settings, database_statement_timeout=30.0)
    monkeypatch.setattr(absence, "WAITED_OUT", 0.0)
    away = absence.Absence()
    engine = create_engine(settings, away)
    with engine.connect() as first, engine.connect() as second:
        former = {each.scalar(text("SELECT pg_backend_pid()")) for each in (first, second)}
        begun = time.monotonic()
        away.note(begun, silent=True)
        with pytest.raises(sqlalchemy.exc.OperationalError) as error:
            first.execute(text("SELECT pg_sleep(20)"))
        assert time.monotonic() - begun < 3
        assert waits.OVERDUE in waits.reason(error.value)
    away.end()
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) not in former


@pytest.mark.parametrize("ask", ["execute", "scalar", "scalars"])
def test_sessions_that_were_ended_a_moment_ago_are_no_error_for_the_first_statement(own, monkeypatch, ask):
    server, settings = own
    app = Flask("sample")
    database.init_app(app, settings)
    monkeypatch.setattr(waits._Bounds, "limit", 30)  # seconds: what ends the sessions may take long on a busy machine
    quiet = SimpleNamespace(poll=lambda: SimpleNamespace(register=lambda *_: None, poll=lambda *_: []), POLLIN=1)
    monkeypatch.setattr(engines, "select", quiet)  # the socket says nothing of it yet

    def end():
        server.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'own'")

    with app.app_context():
        session().scalar(text("SELECT 1"))
    end()
    with app.app_context():
        getattr(session(), ask)(text("SELECT 1"))
        end()
        with pytest.raises(sqlalchemy.exc.OperationalError):  # what went before is lost
            session().scalar(text("SELECT 1"))
    app.extensions["database"].dispose()


@contextmanager
def black_hole():
    """An address that accepts connections and never says a word, as a host behind a dead one's address does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()


def with_hosts(settings, *places):
    """The settings with these hosts before their own."""
    address = settings.database
    (host, port), *others = [*places, (address.host, address.port)]
    return replace(settings, database_url=replace(address, host=host, port=port, others=tuple(others)).url)


def test_of_several_hosts_one_that_refuses_or_is_silent_is_left_for_the_next_and_tried_last_from_then_on(own):
    _, settings = own
    with black_hole() as silent:
        engine = create_engine(with_hosts(settings, ("127.0.0.1", 1), silent), absence.Absence())
        began = time.monotonic()
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1
        assert 1 <= time.monotonic() - began < 3  # the silent one's time
        began = time.monotonic()
        with engine.connect(), engine.connect():
            assert time.monotonic() - began < 1


def test_an_attempt_whose_time_a_silent_host_took_leaves_the_next_host_for_the_next_attempt(own):
    """Readiness has less time than a connection may take."""
    _, settings = own
    with black_hole() as silent:
        engine = create_engine(with_hosts(settings, silent))
        with waits.within(0.3), pytest.raises(sqlalchemy.exc.OperationalError), engine.connect():
            pass
        with waits.within(0.9), engine.connect() as connection:
            assert connection.scalar(text("SELECT 1")) == 1


def test_a_primary_is_found_behind_a_standby(own):
    server, settings = own
    server.execute("ALTER ROLE own SET default_transaction_read_only = on")
    try:
        url = f"{settings.database_url}?target_session_attrs=read-write"
        with (
            pytest.raises(sqlalchemy.exc.OperationalError, match="session is read-only"),
            create_engine(replace(settings, database_url=url)).connect(),
        ):
            pass
    finally:
        server.execute("ALTER ROLE own RESET default_transaction_read_only")


def test_a_commit_that_no_synchronous_standby_confirms_is_an_error(own):
    """Postgres's own statement timeout does not count while it commits, or this would pass for one."""
    server, settings = own
    engine = create_engine(settings)
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
    server.execute("SELECT pg_reload_conf()")
    try:
        with engine.connect() as connection:
            while connection.scalar(text("SHOW synchronous_standby_names")) != "absent":
                time.sleep(0.01)
            connection.execute(text("SET LOCAL synchronous_commit = on"))
            connection.execute(text("SELECT lo_create(0)"))
            with pytest.raises(sqlalchemy.exc.OperationalError, match="did not answer in time"):
                connection.commit()
    finally:
        server.execute("ALTER SYSTEM RESET synchronous_standby_names")
        server.execute("SELECT pg_reload_conf()")


def test_the_migrators_lock_and_settings_are_those_of_transactions(own):
    """Nothing of a session is left for the client that a pooler gives it to next."""
    _, settings = own
    with migrations.connect(settings) as connection:
        with migrations.locked(connection.engine):
            assert connection.scalar(text("SHOW lock_timeout")) == "5s"
            assert connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")) == 1
        assert connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")) == 0
