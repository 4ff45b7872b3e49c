"""`/robots.txt` (RFC 9309) and `/.well-known/security.txt` (RFC 9116), where a setting says what is in them. Otherwise
both are the app's own. For Flask and ASGI alike: neither is imported.
"""

from datetime import UTC, datetime, timedelta

from chassis.settings import Settings

ROBOTS, SECURITY = "/robots.txt", "/.well-known/security.txt"
TYPE = "text/plain; charset=utf-8"
VALIDITY = timedelta(days=180)  # of a copy of security.txt; a year is too long, says the RFC


def paths(settings: Settings) -> list[str]:
    """Those that a setting fills. A service below a prefix has none: they are the whole site's."""
    chosen = {ROBOTS: settings.robots != "own", SECURITY: bool(settings.security_contact)}
    return [path for path, is_set in chosen.items() if is_set and not settings.url_prefix]


def text(path: str, settings: Settings) -> str:
    """The file as it is at this moment, so that it never expires."""
    if path == ROBOTS:
        return f"User-agent: *\n{settings.robots.capitalize()}: /\n"
    contacts = "".join(f"Contact: {each}\n" for each in settings.security_contacts)
    return f"{contacts}Expires: {datetime.now(UTC) + VALIDITY:%Y-%m-%dT%H:%M:%SZ}\n"


def headers(settings: Settings) -> dict[str, str]:
    """On every answer: a crawler that follows a link to a page may list it without asking for robots.txt."""
    return {"X-Robots-Tag": "noindex"} if settings.robots == "disallow" else {}
