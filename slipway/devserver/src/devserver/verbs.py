"""What make's verbs for developers run inside the service: in development only, and in no image of production."""

import sys

from chassis.entrypoint import settings_class
from chassis.settings import Settings, SettingsError


def settings(verb: str) -> Settings:
    """The service's, in development; elsewhere the program ends with one line."""
    try:
        found = settings_class().load()
    except SettingsError as error:
        sys.exit(f"{verb}: {error}")
    if not found.development:
        sys.exit(f"{verb}: it is for development, and APP_ENV is {found.app_env}.")
    return found
