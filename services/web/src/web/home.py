"""The first page: proof that the stack is alive and, while developing, what to do next."""

import os
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import sqlalchemy
from flask import Blueprint, Flask, current_app, render_template

from chassis import db, health, logs, postgres, request_id
from web.settings import Settings

PATIENCE = 1.0  # seconds that the page waits for the database

blueprint = Blueprint("home", __name__)


@dataclass(frozen=True)
class Database:
    """What the database said: its version, and a round trip in milliseconds."""

    version: str
    latency: float


def init_app(app: Flask, settings: Settings) -> None:
    """The page, and `release` and `navigation` for every template."""
    app.config["HOME_TELLS_ALL"] = not settings.production
    app.extensions["navigation"] = []
    app.context_processor(_for_every_template)
    app.register_blueprint(blueprint)


def link(app: Flask, label: str, page: str, api: str) -> None:
    """Adds a page, and the API behind it, to the navigation; both by their endpoint."""
    app.extensions["navigation"].append({"label": label, "page": page, "api": api})


@blueprint.get("/")
def page() -> str:
    """Strangers learn the name and the version; who develops it learns what answered."""
    if not current_app.config["HOME_TELLS_ALL"]:
        return render_template("home.html", details=None)
    details = {
        "replica": logs.HOST,
        "database": ask_database(),
        "request_id": request_id.current(),
        "template": _shown(Path(current_app.root_path, "templates/home.html")),
    }
    return render_template("home.html", details=details)


def ask_database() -> Database | None:
    """The database's version and a round trip to it; None where it can't be reached."""
    try:
        with postgres.within(PATIENCE):
            connection = db.session().connection()
            start = perf_counter()
            version = connection.scalar(sqlalchemy.text("SHOW server_version"))
            return Database(version.split()[0], (perf_counter() - start) * 1000)
    except sqlalchemy.exc.SQLAlchemyError as error:
        current_app.logger.warning("the home page found no database: %s", postgres.reason(error))
        return None


def _for_every_template() -> dict:
    navigation = current_app.extensions["navigation"]
    return {"release": health.release(), "navigation": navigation}


def _shown(path: Path) -> str:
    """The path as a developer would type it: from the repository's root, where there is one."""
    root = next((each for each in path.parents if (each / "uv.lock").exists()), None)
    return os.fspath(path.relative_to(root) if root else path)
