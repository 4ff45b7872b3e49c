"""What make's verbs for developers run inside the service: in development only, and in no image of production."""

import sys

from chassis.settings import Settings, SettingsError, of_service


def settings(verb: str) -> Settings:
    """The service's, in development; elsewhere the program ends with one line."""
    try:
        found = of_service().load()
    except SettingsError as error:
        sys.exit(f"{verb}: {error}")
    if not found.development:
        sys.exit(f"{verb}: it is for development, and APP_ENV is {found.app_env}.")
    return found
