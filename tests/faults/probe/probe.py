"""The service with routes that misbehave, for the fault tests. Mounted, never in an image."""

import os
import threading
import time

from flask import Flask, request
from sqlalchemy import text

from chassis import db
from web.app import create_app as real_app


def create_app() -> Flask:
    app = real_app()
    for name, view in ROUTES.items():
        app.add_url_rule(f"/probe/{name}", name, view)
    return app


def slow() -> str:
    time.sleep(float(os.environ["SLOWEST"]))
    return "done"


def hang() -> str:
    threading.Event().wait()
    return "never"


def rows() -> str:
    """A request that reads the database."""
    return str(db.session().execute(text("SELECT count(*) FROM notes")).scalar())


def sleep_in_sql() -> str:
    db.session().execute(text("SELECT pg_sleep(30)"))
    return "never"


def eat() -> str:
    """Takes memory until the kernel ends this process."""
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1 << 20)) * 16)


def pid() -> str:
    return str(os.getpid())


def echo() -> str:
    return request.args.get("text", "")


ROUTES = {"slow": slow, "hang": hang, "rows": rows, "sleep-in-sql": sleep_in_sql, "eat": eat, "pid": pid, "echo": echo}
