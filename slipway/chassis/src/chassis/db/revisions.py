"""Which revision of the database this code needs, read from its migrations without loading Alembic."""

import re
from pathlib import Path

_ASSIGNED = re.compile(r"""^(revision|down_revision)\b[^=\n]*=\s*(.*)$""", re.MULTILINE)
_QUOTED = re.compile(r"""["']([^"']+)["']""")


class Revisions:
    """The revisions in a service's `migrations/versions`, and the newest of them, `heads`."""

    def __init__(self, directory: Path) -> None:
        self.known: set[str] = set()
        older: set[str] = set()
        for path in directory.glob("versions/*.py"):
            for name, value in _ASSIGNED.findall(path.read_text(encoding="utf-8")):
                (self.known if name == "revision" else older).update(_QUOTED.findall(value))
        self.heads = self.known - older

    def behind(self, current: set[str]) -> bool:
        """Whether a database at `current` lacks a migration of this code.

        A revision that this code does not know is a later one: the next release has already migrated, and this one
        keeps serving until it is replaced.
        """
        if not self.known:
            return False
        return not current or bool(current & (self.known - self.heads))
