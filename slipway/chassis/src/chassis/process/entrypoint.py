"""The container's entrypoint: wait for Postgres where the command needs it, then become the command.

    ENTRYPOINT ["tini", "--", "python", "-P", "-m", "chassis.process.entrypoint"]
    ENV DEFAULT_COMMAND=gunicorn

Without a command, that is the default one; a command that begins with an option, such as `--threads 2`, continues it.

Exit codes: the command's own; 78 (EX_CONFIG, sysexits.h) for wrong settings; 69 (EX_UNAVAILABLE) for a database that
can't be used; 126 and 127, as in a shell, for a command that can't be run or found.
"""

import logging
import os
import shlex
import sys
from functools import partial
from pathlib import PurePath
from time import monotonic, sleep
from typing import TYPE_CHECKING

from chassis.observe import logs
from chassis.observe.exits import CONFIG, UNAVAILABLE, fail, settings_or_exit
from chassis.settings import Settings

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

NOT_EXECUTABLE, NOT_FOUND = 126, 127
INFORMATION = {"--help", "--version"}  # a command with one of these only prints it
FIRST_PAUSE, MAX_PAUSE = 0.1, 2.0  # seconds between attempts, doubling

log = logging.getLogger("entrypoint")


class Unusable(Exception):
    """The database can't be used, and waiting would not help (any more)."""


def main(words: list[str]) -> None:
    logs.configure_early()
    command = complete(words)
    if not command:
        fail(CONFIG, "no command was given: run the image with one, such as `gunicorn`.")
    if needs_database(command):
        prepare()
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming any command is its purpose
    except FileNotFoundError:
        fail(NOT_FOUND, f"no such command: {command[0]}")
    except OSError as error:
        fail(NOT_EXECUTABLE, f"cannot run {command[0]}: {error.strerror}")


def complete(words: list[str]) -> list[str]:
    """Puts the default command before options, and in place of no command."""
    if words and not words[0].startswith("-"):
        return words
    return [*shlex.split(os.environ.get("DEFAULT_COMMAND", "")), *words]


def prepare() -> None:
    """Checks the settings and waits for the database, if there is one; exits with one line where either fails."""
    settings = settings_or_exit()
    if not settings.uses_database:
        return
    try:
        wait_for_postgres(settings)
    except Unusable as error:
        fail(UNAVAILABLE, str(error))


def needs_database(command: list[str]) -> bool:
    """Whether one of the command's first three words is among DATABASE_WAIT_COMMANDS."""
    if INFORMATION.intersection(command):
        return False
    wanted = os.environ.get("DATABASE_WAIT_COMMANDS") or Settings.database_wait_commands
    return any(PurePath(word).name in wanted.split(",") for word in command[:3])


def wait_for_postgres(settings: Settings) -> None:
    """Returns once Postgres has answered an authenticated query.

    Raises Unusable at once for an error that waiting can't fix (a wrong password, no such role or database), and
    after DATABASE_WAIT seconds for everything else.
    """
    # Imported here, so that a command that needs no database starts without them.
    import psycopg2

    from chassis.db import waits

    waits.bound_every_wait(settings)
    address, start, pause = settings.database, monotonic(), FIRST_PAUSE
    hosts, opener = waits.Hosts(address), partial(psycopg2.connect, address.url, **waits.connect_args(settings))
    while True:
        try:
            _ask(hosts.connect(opener))
        except psycopg2.Error as error:
            if problem := permanent(str(error)):
                raise Unusable(f"{problem} ({address}).") from None
            waited = monotonic() - start
            if waited + pause > settings.database_wait:
                raise Unusable(
                    f"Postgres at {address.places} did not answer within "
                    f"{settings.database_wait:g} s (DATABASE_WAIT): {waits.reason(error)}"
                ) from None
            if pause == FIRST_PAUSE:
                log.info("waiting for Postgres at %s: %s", address, waits.reason(error))
            sleep(pause)
            pause = min(pause * 2, MAX_PAUSE)
        else:
            log.info("Postgres answers", extra={"waited": round(monotonic() - start, 3)})
            return


def permanent(message: str) -> str | None:
    """What to do about an error that waiting can't fix; None for one that may pass.

    Goes by libpq's text: an error while connecting carries no SQLSTATE to Python (psycopg2 issue 1151).
    """
    if "password authentication failed" in message or "no password supplied" in message:
        return "Postgres refused the password: check DATABASE_PASSWORD or DATABASE_PASSWORD_FILE"
    if "database" in message and "does not exist" in message:
        return "there is no such database: check DATABASE_NAME, or create it"
    if "role" in message and ("does not exist" in message or "not permitted to log in" in message):
        return "Postgres has no such role: check DATABASE_USER"
    if "no pg_hba.conf entry" in message:
        return "Postgres's pg_hba.conf does not let this role in"
    if "certificate verify failed" in message:
        return "the CA in sslrootcert has not signed Postgres's certificate: check DATABASE_URL, and the file"
    if "server certificate for" in message and "does not match host name" in message:
        return "Postgres's certificate is not for the host that DATABASE_URL names"
    if "root certificate file" in message:
        return "there is no CA to verify Postgres with: sslrootcert in DATABASE_URL names its file, or `system`"
    if "server does not support SSL" in message:
        return "Postgres has no TLS, which sslmode in DATABASE_URL demands"
    if "unsupported startup parameter" in message:
        return "the pooler takes no settings of a session: add options= to DATABASE_URL"
    if "invalid" in message and ("connection option" in message or "URI" in message):
        return "DATABASE_URL is not a URL that Postgres's client understands"
    return None


def _ask(connection: "Connection") -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1:])
