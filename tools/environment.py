"""Settings of the tools: the environment first, then `.env`, as compose reads them."""

import os
import re
from pathlib import Path

FILE = Path(__file__).parents[1] / ".env"


def get(name: str, default: str = "") -> str:
    """The setting's value; an empty one counts as not set."""
    return os.environ.get(name) or in_file().get(name) or default


def in_file() -> dict[str, str]:
    """What `.env` sets; of a name that stands twice, the last counts."""
    text = FILE.read_text() if FILE.exists() else ""
    return {name: value.strip() for name, value in re.findall(r"^([A-Za-z_]\w*)=(.*)$", text, re.MULTILINE)}
