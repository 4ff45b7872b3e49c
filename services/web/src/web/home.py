"""The first page: a status board for those who may see it, a few words for other visitors."""

from flask import Blueprint, Flask, render_template

from chassis.web import status
from web.settings import Settings

blueprint = Blueprint("home", __name__)


def init_app(app: Flask, settings: Settings) -> None:
    """The page, and the navigation of every page."""
    app.extensions["navigation"] = []
    app.context_processor(lambda: {"navigation": app.extensions["navigation"]})
    if not settings.production:
        from web import checklist  # not in the image

        app.jinja_env.globals.update(checklist=lambda: checklist.read(app))
    app.register_blueprint(blueprint)


def link(app: Flask, label: str, page: str, api: str) -> None:
    """Adds a page, and the API behind it, to the navigation; both by their endpoint."""
    app.extensions["navigation"].append({"label": label, "page": page, "api": api})


@blueprint.get("/")
def page() -> str:
    """Shows the public the name and the version; a developer, or a client with the token, the state of the service."""
    return render_template("home.html", status=status.report())
