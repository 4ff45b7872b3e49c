"""Form tokens (Flask-WTF): a form that another site made a browser send is refused."""

from flask import Flask
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.wrappers import Response

from chassis.web import errors

protect = CSRFProtect()


def init_app(app: Flask) -> None:
    # As long as the session: an hour's limit would cost a slow writer what they wrote.
    app.config["WTF_CSRF_TIME_LIMIT"] = None
    protect.init_app(app)
    app.register_error_handler(CSRFError, _refused)


def _refused(error: CSRFError) -> Response:
    """Says what to do; which check failed is of use to an attacker only."""
    error.description = (
        "This form can't be checked to be yours, so nothing was saved. "
        "Go back, copy what you wrote, reload the page and send it again."
    )
    return errors.answer(error)
