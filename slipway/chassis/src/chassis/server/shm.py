"""The folder for files in memory: Linux has one, other systems put them with the temporary files."""

from pathlib import Path

FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - each file in it has a name of its own
