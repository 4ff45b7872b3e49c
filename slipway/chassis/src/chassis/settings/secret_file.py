"""A secret in a file that may change while the app runs, so that a rotation needs no restart."""

import os
from contextlib import suppress
from pathlib import Path
from time import monotonic

INTERVAL = 1.0  # seconds between looks at the file


class SecretFile:
    """The text of the file that `<name>_FILE` names; `default` where no file is named."""

    def __init__(self, name: str, default: str) -> None:
        path = os.environ.get(f"{name}_FILE")
        self.path = Path(path) if path else None
        self.text, self.looked, self.stamp = default, 0.0, 0

    def read(self, at_once: bool = False) -> str:
        """The file's text, at most INTERVAL old; an unreadable or empty file changes nothing."""
        if self.path and (at_once or monotonic() - self.looked > INTERVAL):
            self.looked = monotonic()
            with suppress(OSError, UnicodeDecodeError):
                self._look(self.path)
        return self.text

    def _look(self, path: Path) -> None:
        stamp = path.stat().st_mtime_ns
        if stamp != self.stamp and (text := path.read_text(encoding="utf-8").strip()):
            self.text, self.stamp = text, stamp
