"""How a program that can't go on ends: with one line in the log and an exit code (sysexits.h)."""

import logging
import sys
from typing import NoReturn

from chassis import settings
from chassis.observe import logs, telemetry
from chassis.settings import Settings, SettingsError

CONFIG, UNAVAILABLE = 78, 69

log = logging.getLogger("chassis")


def fail(code: int, message: str) -> NoReturn:
    log.critical(message)
    sys.exit(code)


def settings_or_exit() -> Settings:
    """Returns the service's settings, with logs set up by them; if they are wrong, exits with CONFIG and one line."""
    try:
        found = settings.of_service().load()
    except SettingsError as error:
        logs.configure_early()
        fail(CONFIG, str(error))
    logs.configure(found.log_level, found.log_format)
    if lacking := telemetry.lacks(found):
        fail(CONFIG, lacking)
    return found
