"""Files that are complete or absent, whatever ends the process that writes them. Standard library only."""

import os
from pathlib import Path

from slipway.commands import ROOT


def write(path: Path, text: str) -> None:
    """Writes the file completely or not at all, even if this process or the machine dies. Production's lock is held."""
    unfinished = ROOT / ".deploy.unfinished"
    with unfinished.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        unfinished.chmod(path.stat().st_mode)
    unfinished.replace(path)
