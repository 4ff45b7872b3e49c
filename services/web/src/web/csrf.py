"""Form tokens (Flask-WTF): a form that another site made a browser send is refused."""

from flask import Flask
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.wrappers import Response

from chassis.web import errors

protect = CSRFProtect()


def init_app(app: Flask) -> None:
    # Valid as long as the session: a limit of an hour would cost slow writers what they wrote.
    app.config["WTF_CSRF_TIME_LIMIT"] = None
    protect.init_app(app)
    app.register_error_handler(CSRFError, _refused)


def _refused(error: CSRFError) -> Response:
    """Says what to do; which check failed would help only an attacker."""
    error.description = (
        "This form could not be verified, so nothing was saved. "
        "Go back, copy what you wrote, reload the page and send it again."
    )
    return errors.answer(error)
