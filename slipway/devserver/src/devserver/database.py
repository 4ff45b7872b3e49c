"""Whether the database is at the migrations' revision: the page says so before a query says it less clearly."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chassis.db.revisions import Revisions

PAUSE = 1.0  # seconds between two queries while it is behind, or does not answer

log = logging.getLogger("dev")


class Watch(threading.Thread):
    """Asks until the database has this code's revision; `notices` holds what to do meanwhile."""

    def __init__(self, app: Any, directory: Path, say: Callable[..., None]) -> None:
        super().__init__(name="migrations", daemon=True)
        self.database: Any = getattr(app, "extensions", {}).get("database")
        self.revisions, self.say = Revisions(directory), say
        self.notices: list[str] = []

    def run(self) -> None:
        pause = threading.Event()
        while self.database is not None and self.revisions.known:
            if (current := self.current()) is not None:
                if not (wrong := problem(self.revisions, current)):
                    break
                self.notice(wrong)
            pause.wait(PAUSE)
        if self.notices:
            self.notices = []
            self.say(notices=[], refresh=True)

    def current(self) -> set[str] | None:
        """The database's revisions; None where it does not answer."""
        from sqlalchemy import text
        from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

        try:
            with self.database.engine.connect() as connection:
                return set(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())
        except ProgrammingError:  # no such table: not migrated at all
            return set()
        except SQLAlchemyError:
            return None

    def notice(self, text: str) -> None:
        if self.notices != [text]:
            self.notices = [text]
            log.warning(text)
            self.say(notices=self.notices)


def problem(revisions: Revisions, current: set[str]) -> str:
    """What is wrong with a database at these revisions, and what to do; empty where nothing is."""
    if unknown := current - revisions.known:
        return (
            f"The database has a migration that is not among yours ({', '.join(sorted(unknown))}), perhaps from "
            "another branch: go back to that branch, or recreate the database with `make reset-db`."
        )
    if revisions.behind(current):
        missing = ", ".join(sorted(revisions.heads - current))
        return f"The database is behind the migrations ({missing}): run `make migrate`."
    return ""
