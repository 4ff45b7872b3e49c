"""`/status`: the state of the service, for its developers and for those who have the token.

In production the public sees the name, the version and "up". The rest requires STATUS_TOKEN: as `Authorization:
Bearer …`, or typed into the page's form, which sets a cookie for a working day. It is never read from a URL, since
logs keep those.
"""

import hmac
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Flask, current_app, jsonify, redirect, render_template, request, url_for
from itsdangerous import BadSignature, TimestampSigner
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized
from werkzeug.wrappers import Response

from chassis.observe import logs, request_id, routes, timeseries, version
from chassis.server import drain
from chassis.settings import Settings
from chassis.settings.secret_file import SecretFile
from chassis.web import board, security

COOKIE_AGE = 12 * 3600  # seconds
PEER_TIMEOUT = 2.0  # seconds, more than a replica waits for its database

blueprint = Blueprint("status", __name__)


class Guard:
    """Who may see it: any client outside of production, else a client with the token or its cookie."""

    def __init__(self, settings: Settings) -> None:
        self.open = not settings.production
        self.token = SecretFile("STATUS_TOKEN", settings.status_token)

    def admits(self) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return self.open or (scheme.lower() == "bearer" and self.knows(given)) or self.has_signed()

    def knows(self, given: str) -> bool:
        token = self.token.read()
        return bool(token) and hmac.compare_digest(given.encode(), token.encode())

    def has_signed(self) -> bool:
        """Whether the cookie was signed with the current token: a new token ends every sign-in."""
        try:
            return bool(self.token.read()) and bool(self.signer.unsign(request.cookies.get(cookie(), ""), COOKIE_AGE))
        except BadSignature:
            return False

    @property
    def signer(self) -> TimestampSigner:
        return TimestampSigner(self.token.read(), salt="chassis.status")


def init_app(app: Flask, settings: Settings) -> None:
    app.extensions["status"] = {
        "guard": Guard(settings),
        "peers": [peer.strip() for peer in settings.status_peers.split(",") if peer.strip()],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # For a service's own page, too: `{% include "chassis/board.html" %}`, with `status=status.report()`.
    app.jinja_env.globals.update(headline=board.headline, charts=board.charts, request_id=request_id.current)
    app.context_processor(lambda: {"release": version.current()})
    app.register_blueprint(blueprint)


@blueprint.get(routes.STATUS)
def show() -> Response:
    """A page for browsers, JSON for other clients.

    With `?only=this`, which replicas send each other, the answer is about this replica alone. 401 for a wrong token.
    """
    if "Authorization" in request.headers and not allowed():
        raise Unauthorized("That is not the token.", www_authenticate=WWWAuthenticate("bearer"))
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        return answer(render_template("chassis/status.html", status=report(), wrong=False))
    alone = "only" in request.args and allowed()
    return answer(jsonify(this_replica() if alone else report()))


@blueprint.post(routes.STATUS)
def sign_in() -> Response:
    """Exchanges the form's `token` for a cookie; 401 for a wrong token."""
    guard = current_app.extensions["status"]["guard"]
    if not guard.knows(request.form.get("token", "").strip()):
        return answer(render_template("chassis/status.html", status=report(), wrong=True), 401)
    response = redirect(url_for(".show"), 303)
    response.set_cookie(
        cookie(),
        guard.signer.sign(b"1").decode(),
        secure=cookie().startswith("__Host-"),
        httponly=True,
        samesite="Strict",
    )
    return response


def allowed() -> bool:
    """Whether this request may see more than the public may."""
    guard: Guard = current_app.extensions["status"]["guard"]
    return guard.admits()


def report() -> dict[str, Any]:
    """Name, version and "up"; for a client that is allowed to see them also `replicas`, each as in this_replica().

    A replica that does not answer has its `name` and the `problem`.
    """
    release = version.current()
    public = {"name": release["name"], "version": release["version"], "status": "up"}
    return {**public, "replicas": replicas()} if allowed() else public


def this_replica() -> dict[str, Any]:
    """What this replica knows about itself; `recent` has a list for each of timeseries.Step's figures."""
    release, database = version.current(), None
    if "database" in current_app.extensions:
        database = current_app.extensions["database"].report()
    problem = "draining" if drain.started() else None
    if database and not database["answers"]:
        problem = problem or "no database"
    elif database and database["pending"]:
        problem = problem or "migrations are pending"
    steps = timeseries.read()
    return {
        "name": logs.HOST,
        "version": release["version"],
        "revision": release["revision"],
        "started": current_app.extensions["status"]["started"],
        "problem": problem,
        "database": database,
        "step": timeseries.STEP,
        "recent": {
            "requests": [each.requests for each in steps],
            "errors": [each.errors for each in steps],
            "milliseconds": [mean(each.seconds, each.requests) for each in steps],
            "database": [mean(each.waited, each.pings) for each in steps],
            "lost": [each.lost for each in steps],
        },
    }


def replicas() -> list[dict[str, Any]]:
    """All replicas that STATUS_PEERS names, under those names; this one if it names none."""
    peers = current_app.extensions["status"]["peers"]
    if not peers:
        return [this_replica()]
    token = current_app.extensions["status"]["guard"].token.read()
    with ThreadPoolExecutor(len(peers)) as pool:
        return list(pool.map(lambda peer: ask_replica(peer, token), peers))


def ask_replica(peer: str, token: str) -> dict[str, Any]:
    """What the replica at `host:port` says about itself, under the name of its host, not of its container."""
    name = peer.partition(":")[0]
    connection = http.client.HTTPConnection(peer, timeout=PEER_TIMEOUT)
    try:
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token}"}
        connection.request("GET", f"{routes.STATUS}?only=this", headers=headers)
        return {**json.load(connection.getresponse()), "name": name}
    except (OSError, ValueError, http.client.HTTPException):
        return {"name": name, "problem": "does not answer"}
    finally:
        connection.close()


def mean(seconds: float, count: int) -> float | None:
    """The mean in milliseconds; None if nothing was counted."""
    return round(seconds / count * 1000, 2) if count else None


def cookie() -> str:
    """The cookie's name: it is secure by the same rule as the session's cookie."""
    secure = current_app.session_interface.get_cookie_secure(current_app)
    return ("__Host-status" if secure else "status") + security.port()


def answer(body: str | Response, status: int = 200) -> Response:
    response = current_app.make_response((body, status))
    response.headers["Cache-Control"] = "no-store"
    response.vary.update(("Accept", "Authorization", "Cookie"))
    return response
