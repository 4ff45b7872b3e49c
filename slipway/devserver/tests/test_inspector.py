"""The request inspector: what it keeps of a request, and what it tells to whom."""

import json
import logging
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Annotated

import pytest
import sanic
import sqlalchemy
from fastapi import Depends, FastAPI
from flask import Flask, render_template_string
from sqlalchemy import text
from werkzeug.test import Client

from chassis.db.engine import engine_url
from chassis.settings import Settings
from chassis.web import fastapi
from chassis.web import sanic as ours
from chassis.web.database import session
from chassis.web.sessions import Session, in_session
from chassis.web.sessions import session as lent
from chassis.web.setup import setup
from chassis_testing import asgi as testing
from devserver import asgi, inspector, layer, page, recording, sql
from devserver.state import State

PATH = inspector.PATH
HOME = "services/web/src/web/home.py"
LOOP = """
def look(session, text):
    for number in range(6):
        session.execute(text("SELECT count(*) FROM parts WHERE number = :number"), {"number": number})
"""


@pytest.fixture(scope="module")
def address(postgres):
    """A database with one table."""
    address = postgres.create("inspected")
    owner = sqlalchemy.create_engine(engine_url(replace(address, user="inspected_owner")))
    with owner.begin() as connection:
        connection.execute(text("CREATE TABLE parts (number integer, api_key text)"))
    owner.dispose()
    return address


@pytest.fixture
def settings(address):
    return Settings.load({"APP_ENV": "test", "SECRET_KEY": "k", "DATABASE_URL": address.url})


@pytest.fixture
def supervisor(root):
    """What a worker has of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    with ours, theirs:
        yield SimpleNamespace(
            root=root, service=root, state=State(), theirs=theirs, ours=ours, notices={}, requests=inspector.Kept()
        )


class Developer:
    """Asks the app, and looks at the inspector's page from the same machine."""

    def __init__(self, client, supervisor):
        self.client, self.supervisor = client, supervisor

    def get(self, path, method="GET", **headers):
        headers = {"Host": "localhost", **headers}
        if isinstance(self.client, testing.Client):
            return self.client.request(method, path, headers=headers)
        base = {"REMOTE_ADDR": "127.0.0.1"}
        return self.client.open(path, method=method, headers=headers, environ_base=base, buffered=True)

    def listed(self, **headers):
        """The numbers and summaries that the page gets, once the supervisor has read what the worker sent."""
        with suppress(BlockingIOError):
            while True:
                self.supervisor.requests.add(self.supervisor.ours.recv(2 * recording.MAX_BYTES))
        events = [each.splitlines() for each in self.get(f"{PATH}/events", **headers).text.split("\n\n")]
        return {
            int(lines[0][4:]): json.loads(lines[1][6:]) for lines in events if lines and lines[0].startswith("id: ")
        }

    def shown(self):
        """What the page shows of the latest request."""
        return json.loads(self.get(f"{PATH}/{max(self.listed())}").text)

    def explained(self, part):
        """The plan of the latest request's last statement that contains this."""
        events = self.shown()["events"]
        (*_, index) = [number for number, each in enumerate(events) if part in each["text"]]
        return self.get(f"{PATH}/{max(self.listed())}/{index}", "POST")


@pytest.fixture
def developer(settings, supervisor, root):
    names = {}
    exec(compile(LOOP, root / HOME, "exec"), names)
    app = Flask("sample")
    setup(app, settings)

    @app.get("/parts")
    def parts():
        app.logger.warning("looking for %s", "parts", extra={"many": 6})
        session().execute(text("SELECT 1 FROM parts WHERE api_key = :api_key"), {"api_key": "k3y"})
        names["look"](session(), text)
        return render_template_string("{{ 6 }} parts")

    @app.get("/fail")
    def fail():
        raise LookupError("no such part")

    @app.get("/many")
    def many():
        for number in range(3000):
            app.logger.info("%s of many %s", number, "." * 100)
        return "many"

    @app.get("/count")
    def count():
        return str(session().scalar(text("SELECT count(*) FROM parts")))

    @app.get("/writes")
    def writes():
        session().execute(text("INSERT INTO parts VALUES (1, '100 %')"))
        session().execute(text("SELECT 1; SELECT 2"))
        session().commit()
        return "written"

    yield Developer(Client(layer.Layer(app, 7, supervisor, lambda **message: None)), supervisor)
    app.extensions["database"].dispose()


def of_kind(record, kind):
    return [event for event in record["events"] if event["kind"] == kind]


def test_it_shows_what_a_request_did_in_its_order_with_times_values_rows_and_places(developer):
    assert developer.get("/parts", **{"X-Request-ID": "abcdef0123456789"}).text == "6 parts"
    record = developer.shown()
    assert (record["method"], record["path"], record["status"]) == ("GET", "/parts", 200)
    assert record["id"] == "abcdef0123456789"
    log, connection, *statements, template = record["events"]
    assert log["text"] == "WARNING sample: looking for parts  many=6"
    assert connection["kind"] == "connection"
    assert template["kind"] == "template"
    assert {each["kind"] for each in statements} == {"sql"}
    starts = [each["at"] for each in record["events"]]
    assert starts == sorted(starts)
    assert 0 < sum(each["ms"] for each in statements) < record["ms"]
    last = statements[-1]
    assert last["text"] == "SELECT count(*) FROM parts WHERE number = %(number)s"
    assert last["parameters"] == {"number": "5"}
    assert (last["rows"], last["place"]) == (1, f"{HOME}:4")


def test_a_statement_that_ran_over_five_times_is_marked_with_the_line_that_sent_it(developer):
    developer.get("/parts")
    (repeated,) = developer.shown()["repeated"]
    assert repeated["text"] == "SELECT count(*) FROM parts WHERE number = %(number)s"
    assert (repeated["count"], repeated["place"]) == (6, f"{HOME}:4")
    assert [each["repeated"] for each in developer.listed().values()] == [6]
    assert recording.often([sql.Statement("SELECT 1", 1.0, "", 0.0, {}, 1, "", None)] * 5) == []


def test_a_plan_marks_what_reads_a_whole_table(developer):
    developer.get("/parts")
    lines = json.loads(developer.explained("count(*)").text)["lines"]
    assert [line["scan"] for line in lines if "Seq Scan on parts" in line["text"]] == [True]
    assert not lines[0]["scan"]
    assert "Filter: (number = 5)" in " ".join(line["text"] for line in lines)  # by the values that were sent


def test_a_plan_is_of_a_recorded_statement_alone_and_runs_nothing(developer):
    developer.get("/writes")
    number, events = max(developer.listed()), developer.shown()["events"]
    assert "Insert on parts" in developer.explained("INSERT").text
    assert developer.explained("SELECT 1; SELECT 2").status_code == 404
    assert developer.get(f"{PATH}/{number}/{len(events)}", "POST").status_code == 404
    assert developer.get(f"{PATH}/{number}/0").status_code == 405
    assert developer.get("/count").text == "1"


def test_a_statement_that_would_write_is_refused_by_the_transaction(settings):
    engine = sqlalchemy.create_engine(engine_url(settings.database))
    refused = inspector.plan(engine, "ANALYZE INSERT INTO parts VALUES (2)")
    assert "read-only transaction" in refused["error"]
    assert "syntax error" in inspector.plan(engine, "SELECT FROM WHERE")["error"]
    engine.dispose()


def test_secrets_are_masked_and_no_plan_shows_them(developer):
    developer.get("/parts")
    record = developer.shown()
    (masked,) = [each for each in of_kind(record, "sql") if "api_key = " in each["text"]]
    assert masked["parameters"] == {"api_key": "••••••"}
    assert not masked["explainable"]
    assert "k3y" not in json.dumps(record)
    assert developer.explained("api_key = ").status_code == 404


def test_an_exception_is_shown_with_its_page_for_a_program_that_asks_for_json_too(developer):
    for accept in ("text/html", "application/json"):
        answer = developer.get("/fail", Accept=accept)
        error = developer.shown()["error"]
        assert (error["kind"], error["message"]) == ("LookupError", "no such part")
        assert "in fail" in error["trace"]
        assert "LookupError" in developer.get(error["page"]).text
        assert (f'href="{PATH}#{answer.headers["X-Request-ID"]}"' in answer.text) == (accept == "text/html")


def test_an_app_that_cannot_start_says_why_here_too(supervisor, root):
    broken = page.Broken(root, ImportError("no module of mine"), [])
    developer = Developer(Client(layer.Layer(broken, 7, supervisor, lambda **message: None)), supervisor)
    assert developer.get("/parts").status_code == 500
    assert developer.shown()["error"]["message"] == "no module of mine"


def test_probes_static_files_and_its_own_requests_are_left_out_unless_they_fail(developer):
    for path in ("/health/live", "/health/ready?for=traffic", "/metrics", PATH, "/static/missing.css"):
        developer.get(path)
    assert [each["path"] for each in developer.listed().values()] == ["/static/missing.css"]


def test_the_last_200_are_kept_each_with_a_number_that_only_grows(developer, supervisor):
    kept = supervisor.requests
    for number in range(250):
        kept.add(recording.encoded({"path": str(number)}, {"events": []}))
    listed = developer.listed()
    assert [each["path"] for each in listed.values()] == [str(number) for number in range(50, 250)]
    assert list(listed) == sorted(listed)
    assert list(developer.listed(**{"Last-Event-ID": str(max(listed) - 1)})) == [max(listed)]
    assert developer.get(f"{PATH}/{min(listed) - 1}").status_code == 404
    assert inspector.Kept().first > max(listed)  # of the next start


def test_a_request_with_too_much_to_say_shows_its_beginning_and_how_much_is_left_out(developer):
    assert developer.get("/many").text == "many"
    record = developer.shown()
    assert record["events"][0]["text"].startswith("INFO    sample: 0 of many")
    assert len(record["events"]) + record["left_out"] == 3000
    assert record["left_out"] > 0


@pytest.mark.parametrize(
    "header", [{"Host": "evil.example"}, {"X-Forwarded-For": "127.0.0.1"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_it_is_for_this_machine_alone(developer, header):
    developer.get("/parts")
    number, last = max(developer.listed()), len(developer.shown()["events"]) - 2
    for path, method in {
        "": "GET",
        ".js": "GET",
        "/events": "GET",
        f"/{number}": "GET",
        f"/{number}/{last}": "POST",
    }.items():
        assert developer.get(PATH + path, method).status_code == 200
        refused = developer.get(PATH + path, method, **header)
        assert refused.status_code == 404
        assert "parts" not in refused.text


def test_its_page_runs_no_script_but_its_own(developer):
    answer = developer.get(PATH)
    assert "default-src 'none'; script-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "text/javascript" in developer.get(f"{PATH}.js").headers["Content-Type"]


def test_a_reload_waits_for_no_library_that_the_app_does_not_use():
    code = (
        "import sys; from pathlib import Path; from devserver import layer; layer.listen(Path('/'), flask=False);"
        "print({'flask', 'sqlalchemy'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


# --- ASGI


def with_sanic(settings):
    app = sanic.Sanic("sample", configure_logging=False)
    chassis = ours.setup(app, settings)

    @app.get("/parts")
    async def parts(request):
        logging.getLogger("sample").info("looking for parts")
        statement = text("SELECT count(*) FROM parts WHERE number = 5")
        return sanic.json(await in_session(lambda session: [session.scalar(statement) for _ in range(6)]))

    @app.get("/fail")
    async def fail(request):
        raise LookupError("no such part")

    return chassis


def with_fastapi(settings):
    app = FastAPI()
    chassis = fastapi.setup(app, settings)

    @app.get("/parts")
    def parts(session: Annotated[Session, Depends(lent, scope="function")]):
        logging.getLogger("sample").info("looking for parts")
        return [session.scalar(text("SELECT count(*) FROM parts WHERE number = 5")) for _ in range(6)]

    @app.get("/fail")
    def fail():
        raise LookupError("no such part")

    return chassis


@pytest.fixture(params=[with_sanic, with_fastapi])
def asgi_developer(request, settings, supervisor, monkeypatch):
    monkeypatch.setattr("sanic.Sanic.test_mode", True)  # many apps of one name in one process
    with testing.Client(asgi.Layer(request.param(settings), supervisor)) as client:
        yield Developer(client, supervisor)


def test_a_request_of_an_asgi_app_is_shown_with_its_threads_sql_log_and_id(asgi_developer):
    answer = asgi_developer.get("/parts?a=1")
    assert len(answer.json()) == 6
    record = asgi_developer.shown()
    assert (record["path"], record["status"], record["id"]) == ("/parts?a=1", 200, answer.headers["X-Request-ID"])
    assert len(of_kind(record, "sql")) == record["repeated"][0]["count"] == 6
    assert of_kind(record, "connection")
    assert [each["text"] for each in of_kind(record, "log")] == ["INFO    sample: looking for parts"]
    assert "Seq Scan on parts" in asgi_developer.explained("count(*)").text


def test_an_exception_of_an_asgi_app_is_shown_and_the_locks_are_the_same(asgi_developer):
    assert asgi_developer.get("/fail").status_code == 500
    error = asgi_developer.shown()["error"]
    assert (error["kind"], error["message"]) == ("LookupError", "no such part")
    assert "in fail" in error["trace"]
    assert asgi_developer.get(PATH, **{"X-Forwarded-For": "127.0.0.1"}).status_code == 404
    assert "<h1>Requests</h1>" in asgi_developer.get(PATH).text
