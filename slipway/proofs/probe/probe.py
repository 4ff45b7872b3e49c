"""Routes for the tests: rows, a form, and misbehaving ones. `harness.with_probe` copies this file into the
web services of a checkout, so that no test depends on what a service does; it is never in the repository's images.
"""

import os
import threading
import time
from collections.abc import Callable

from flask import Blueprint, Flask, abort, jsonify, render_template_string, request, session
from sqlalchemy import text
from werkzeug.wrappers import Response

from chassis.web import database

FORM = '<form method="post"><input name="csrf_token" value="{{ csrf_token() if csrf_token is defined }}"></form>'

blueprint = Blueprint("probe", __name__, url_prefix="/probe")


def added_to(create_app: Callable[..., Flask]) -> Callable[..., Flask]:
    """The factory of an app with these routes in addition to its own."""

    def create(*arguments: object, **options: object) -> Flask:
        app = create_app(*arguments, **options)
        app.register_blueprint(blueprint)
        if "csrf" in app.extensions:
            app.extensions["csrf"].exempt(add)  # JSON, which a form of another site can't send
        return app

    return create


@blueprint.get("/rows")
def rows() -> Response:
    """The first hundred rows, and the total."""
    titles = database.session().scalars(text("SELECT title FROM probe ORDER BY id LIMIT 100")).all()
    total = database.session().scalar(text("SELECT count(*) FROM probe"))
    return jsonify(titles=list(titles), total=total)


@blueprint.post("/rows")
def add() -> tuple[Response, int, dict[str, str]]:
    """201 and the row's place; 422 for anything but a title."""
    body = request.get_json()
    title = body.get("title") if isinstance(body, dict) else None
    if not isinstance(title, str):
        abort(422)
    number = store(title)
    return jsonify(title=title), 201, {"Location": f"{request.path}/{number}"}


@blueprint.get("/rows/<int:number>")
def row(number: int) -> Response:
    title = database.session().scalar(text("SELECT title FROM probe WHERE id = :id"), {"id": number})
    return jsonify(title=title) if title else abort(404)


def store(title: str) -> int:
    number = database.session().scalar(text("INSERT INTO probe (title) VALUES (:title) RETURNING id"), {"title": title})
    database.session().commit()
    return number


@blueprint.route("/form", methods=["GET", "POST"])
def form() -> str:
    """What was typed is stored, for a client that was shown the form in the same session."""
    if request.method == "GET":
        session["shown"] = True
        return render_template_string(FORM)
    if not session.get("shown"):
        abort(400)
    store(request.form["title"])
    return "accepted"


@blueprint.get("/url")
def url() -> str:
    """The URL at which the service believes it is."""
    return request.url


@blueprint.get("/slow")
def slow() -> str:
    time.sleep(float(os.environ["SLOWEST"]))
    return "done"


@blueprint.get("/hang")
def hang() -> str:
    threading.Event().wait()
    return "never"


@blueprint.get("/sleep-in-sql")
def sleep_in_sql() -> str:
    database.session().execute(text("SELECT pg_sleep(30)"))
    return "never"


@blueprint.get("/eat")
def eat() -> str:
    """Takes memory until the kernel ends this process."""
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1 << 20)) * 16)


@blueprint.get("/pid")
def pid() -> str:
    return str(os.getpid())


@blueprint.get("/echo")
def echo() -> str:
    return request.args.get("text", "")


@blueprint.get("/hold")
def hold() -> str:
    """Keeps a connection of the pool from others, for longer than the request takes."""
    connection = database.session().get_bind().connect()
    threading.Timer(float(os.environ.get("HELD") or 5), connection.close).start()
    return "held"
