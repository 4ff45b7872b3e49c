"""The sample: notes as pages (`/notes`) and as a JSON API (`/api/notes`).

`make remove-sample` takes it out. Nothing outside of this package imports it but `web.app`.
"""

from flask import Flask

from web import csrf, home
from web.notes import api, pages
from web.settings import Settings


def init_app(app: Flask, settings: Settings) -> None:
    app.config["NOTES_PER_PAGE"] = settings.notes_per_page
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(api.blueprint)
    # What another site makes a browser send is refused before (chassis.web.security), and no cookie means
    # anything to the API.
    csrf.protect.exempt(api.blueprint)
    if settings.development:
        from web.notes import seed  # no part of the image

        app.cli.add_command(seed.command)
    home.link(app, "Notes", page="notes.index", api="notes_api.list_notes")
