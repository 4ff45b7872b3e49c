"""Where files lie in memory: Linux has a folder for them, other systems put them with the temporary ones."""

from pathlib import Path

FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - what is in it has a name of its own
