"""Whether Postgres runs in this stack or elsewhere, where DATABASE_URL names it. Standard library only."""

from slipway.commands.shared import dotenv
from slipway.commands.shared.stop import Stop


def elsewhere() -> bool:
    return bool(dotenv.get("DATABASE_URL"))


def refuse_elsewhere(instead: str) -> None:
    if elsewhere():
        raise Stop(f"DATABASE_URL names a database elsewhere: {instead}")


def problem() -> str | None:
    """What is wrong with the settings of a database elsewhere, in one line."""
    login = dotenv.get("DATABASE_URL").partition("://")[2].partition("/")[0].rpartition("@")[0]
    if ":" in login:
        return "DATABASE_URL in .env has a password, which `docker inspect` shows: it goes into secrets/web_password"
    if elsewhere() and "backup" in dotenv.get("COMPOSE_PROFILES").split(","):
        return "COMPOSE_PROFILES=backup is for a database of this stack: DATABASE_URL names one elsewhere"
    return None
