"""What an app of any framework refuses: requests that another site made a browser send, and large bodies."""

from collections.abc import Callable

from chassis.settings import Settings

MAX_BODY = 1024 * 1024  # bytes, checked before anything is parsed
SAFE_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}  # which change nothing (RFC 9110, 9.2.1)
REFUSAL = "This was sent from another site, so nothing was changed."


def is_cross_site(site: str, origin: str, own: Callable[[], str], trusted: set[str]) -> bool:
    """Whether another site made a browser send this: by Sec-Fetch-Site, else by Origin, which no page can set.

    A request with neither header comes from a program, which no other site can control.
    """
    if site in ("same-origin", "none") or not (site or origin):
        return False
    origin = origin.lower()
    return origin not in trusted and (site == "cross-site" or origin != own().lower())


def trusted_origins(settings: Settings) -> set[str]:
    return {each.strip().rstrip("/").lower() for each in settings.trusted_origins.split(",")} - {""}
