"""What an app of any framework refuses: what another site made a browser send, and what is too large."""

from collections.abc import Callable

from chassis.settings import Settings

MAX_BODY = 1024 * 1024  # bytes, before any of it is parsed
SAFE_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}  # which change nothing (RFC 9110, 9.2.1)
REFUSAL = "This was sent from another site, so nothing was changed."


def is_cross_site(site: str, origin: str, own: Callable[[], str], trusted: set[str]) -> bool:
    """Whether another site made a browser send this: by Sec-Fetch-Site, else by Origin, which no page can set.

    What has neither comes from a program, which no other site can make send anything.
    """
    if site in ("same-origin", "none") or not (site or origin):
        return False
    origin = origin.lower()
    return origin not in trusted and (site == "cross-site" or origin != own().lower())


def trusted_origins(settings: Settings) -> set[str]:
    return {each.strip().rstrip("/").lower() for each in settings.trusted_origins.split(",")} - {""}
