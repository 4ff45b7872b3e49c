"""The sample: notes as pages (`/notes`) and as a JSON API (`/api/notes`).

`make remove-sample` takes it out. Outside of this package, only `web.app` imports it.
"""

from flask import Flask

from web import csrf, home
from web.notes import api, pages
from web.settings import Settings


def init_app(app: Flask, settings: Settings) -> None:
    app.config["NOTES_PER_PAGE"] = settings.notes_per_page
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(api.blueprint)
    # Requests that another site makes a browser send are refused earlier (chassis.web.security), and the API ignores
    # cookies.
    csrf.protect.exempt(api.blueprint)
    if settings.development:
        from web.notes import seed  # not in the image

        app.cli.add_command(seed.command)
    home.link(app, "Notes", page="notes.index", api="notes_api.list_notes")
