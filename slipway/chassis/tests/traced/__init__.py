"""A service that test_traces.py and test_errors.py start as production does."""

import logging
import urllib.request
from pathlib import Path

import requests
from flask import Flask, request, send_file
from opentelemetry import trace
from sqlalchemy import text

from chassis.observe import telemetry
from chassis.web.database import session
from chassis.web.setup import setup
from traced.settings import Settings

REFUSED = """DO $$ BEGIN
RAISE unique_violation USING MESSAGE = 'duplicate ' || :name, DETAIL = :name, TABLE = 'people', CONSTRAINT = 'one_name';
END $$"""


def create_app() -> Flask:
    app = Flask(__name__, root_path=str(Path(__file__).parent / "src/traced"))
    setup(app, Settings.load())
    for view in (people, refused, commented, broken, calls, file, inner):
        app.add_url_rule(f"/{view.__name__}/<name>", view_func=view)
    return app


def people(name: str) -> str:
    session().execute(text("SELECT pg_sleep(0.01)"))
    found = session().scalars(text("SELECT :name"), {"name": name}).one()
    logging.getLogger("traced").info("found")
    return found


def refused(name: str) -> str:
    session().execute(text(REFUSED), {"name": name})
    return ""


def commented(name: str) -> str:
    """The statement as Postgres shows it."""
    return session().scalars(text("SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()")).one()


def broken(name: str) -> str:
    raise ZeroDivisionError("no such number")


def calls(name: str) -> str:
    """Calls the address in the query by urllib and by requests; what others send is in the answer."""
    with urllib.request.urlopen(request.args["url"]):
        requests.get(request.args["url"], timeout=10)
    return telemetry.headers()["traceparent"]


def file(name: str) -> object:
    return send_file(__file__)


def inner(name: str) -> str:
    with trace.get_tracer("app").start_as_current_span("own"):
        session().execute(text("SELECT 1"))
    return ""
