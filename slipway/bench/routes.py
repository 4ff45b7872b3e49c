"""The service with the reference's two routes. It is mounted, never part of an image."""

import importlib
import os

from flask import Flask
from sqlalchemy import text

from chassis.web.database import session


def create_app() -> Flask:
    app = importlib.import_module(f"{os.environ['SERVICE']}.app").create_app()
    app.add_url_rule("/bench/hello", "hello", hello)
    app.add_url_rule("/bench/query", "query", query)
    return app


def hello() -> str:
    return "hello"


def query() -> str:
    return session().execute(text("SELECT name FROM bench WHERE id = 1")).scalar()
