"""What a service signs, accepts and trusts: sessions, sizes, forwarding headers, page contents."""

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Request, Response, abort, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from werkzeug.middleware.proxy_fix import ProxyFix

from chassis.settings import Settings
from chassis.settings.secret_file import SecretFile
from chassis.web import well_known
from chassis.web.cross_site import MAX_BODY, REFUSAL, SAFE_METHODS, is_cross_site, trusted_origins

MAX_FORM_PARTS = 100


class SessionCookie(SecureCookieSessionInterface):
    """The secure cookie; an ordinary one on a plain HTTP site, where browsers refuse the secure one.

    Only a trusted proxy can say that a request came over plain HTTP, and ours lets such a request
    pass only if SITE_ADDRESS asks for it. Without a trusted proxy, this is unknown, so the cookie stays secure.
    """

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        if "HTTP_COOKIE" in request.environ or not app.secret_key:
            return super().open_session(app, request)
        return self.session_class()  # a new one, without the signature's setup

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        if session.accessed or session.modified or session.permanent:
            super().save_session(app, session, response)

    def get_cookie_name(self, app: Flask) -> str:
        name = super().get_cookie_name(app)
        return (name if self.get_cookie_secure(app) else name.removeprefix("__Host-")) + port()

    def get_cookie_secure(self, app: Flask) -> bool:
        return super().get_cookie_secure(app) and (request.is_secure or not app.config["BEHIND_PROXY"])


def init_app(app: Flask, settings: Settings) -> None:
    app.session_interface = SessionCookie()
    app.config.update(
        # A browser accepts a __Host- cookie only from this very host and over HTTPS, so no neighbouring subdomain can
        # plant one.
        # Its path is the site's, whatever the prefix: services that share a site use different names.
        SESSION_COOKIE_NAME=("__Host-" if settings.production else "") + cookie_name(settings),
        SESSION_COOKIE_SECURE=settings.production,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        BEHIND_PROXY=bool(settings.trusted_proxies),
        MAX_CONTENT_LENGTH=MAX_BODY,
        MAX_FORM_MEMORY_SIZE=MAX_BODY,
        MAX_FORM_PARTS=MAX_FORM_PARTS,
    )
    _follow_key(app, SecretFile("SECRET_KEY", settings.secret_key))
    trusted = trusted_origins(settings)

    def refuse_cross_site() -> None:
        # Without the LocalProxy, and from the environ, this takes a tenth of the time.
        current: Request = request._get_current_object()  # type: ignore[attr-defined]
        if current.method not in SAFE_METHODS:
            site, origin = current.environ.get("HTTP_SEC_FETCH_SITE", ""), current.environ.get("HTTP_ORIGIN", "")
            if is_cross_site(site, origin, lambda: f"{current.scheme}://{current.host}", trusted):
                abort(403, REFUSAL)

    app.before_request(refuse_cross_site)
    policy = {"Content-Security-Policy": settings.content_security_policy}
    app.after_request(partial(_add_headers, policy | well_known.headers(settings)))
    for path in well_known.paths(settings):
        app.add_url_rule(path, path.replace(".", "_"), _well_known(path, settings))
    trust_proxies(app, settings)


def trust_proxies(app: Flask, settings: Settings) -> None:
    """Takes the client's address, the scheme and the host from X-Forwarded-*, as set by TRUSTED_PROXIES proxies."""
    if hops := settings.trusted_proxies:
        fix = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)
        app.wsgi_app = fix  # type: ignore[method-assign] # as Flask documents it
        # The same few headers come again and again, and take 2 µs to parse. The cache is small: a client may send long
        # ones.
        fix._get_real_value = lru_cache(maxsize=128)(fix._get_real_value)  # type: ignore[method-assign]


def cookie_name(settings: Settings) -> str:
    return "session" + settings.url_prefix.replace("/", "-")


def port() -> str:
    """The suffix of a cookie's name if the site has a port of its own. Browsers send a host's cookies to all of its
    ports, so two sites on one machine would end each other's sessions."""
    number = request.host.rpartition(":")[2]
    return f"-{number}" if number.isdecimal() else ""


def _follow_key(app: Flask, key: SecretFile) -> None:
    """Uses the key that its file holds at each request, before the session is read, so not in a hook."""
    inner, known = app.wsgi_app, key.read()

    def with_current_key(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        nonlocal known
        if (text := key.read()) != known:
            known = text
            _use_key(app, text)
        return inner(environ, start_response)

    _use_key(app, known)
    app.wsgi_app = with_current_key  # type: ignore[method-assign]


def _use_key(app: Flask, text: str) -> None:
    """The first line signs; the lines below it are former keys, whose sessions and forms stay valid."""
    key, *former = text.splitlines() or [""]
    app.config.update(
        SECRET_KEY=key,
        SECRET_KEY_FALLBACKS=former,
        WTF_CSRF_SECRET_KEY=[*reversed(former), key],  # itsdangerous signs with the last
    )


def _add_headers(headers: dict[str, str], response: Response) -> Response:
    """The policy is set here and not only by the proxy, so that an inline script fails while it is being written."""
    for name, value in headers.items():
        response.headers.setdefault(name, value)
    return response


def _well_known(path: str, settings: Settings) -> Callable[[], Response]:
    def text() -> Response:
        return Response(well_known.text(path, settings), content_type=well_known.TYPE)

    return text  # a function: flask_wtf asks a view for its name
