"""The way to Docker and compose, production's and development's. Standard library only."""

import json
import subprocess
from typing import Any

from slipway.commands import ROOT
from slipway.commands.shared import inventory
from slipway.commands.shared.stop import Stop

PRODUCTION = ["docker", "compose"]


def development() -> list[str]:
    """How compose is called for development."""
    files = ["compose/base.yaml", "compose/dev.yaml", *(f"compose/{each.name}.dev.yaml" for each in inventory.all())]
    # .env lies beside compose.yaml, where compose does not look for it.
    settings = ["--env-file", ".env"] if (ROOT / ".env").exists() else []
    return [*PRODUCTION, *(word for file in files for word in ("--file", file)), *settings]


def compose(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Production's; what it says is kept. With no bound on the time: half-way through a deploy, late is better than
    not."""
    return docker("compose", *arguments, **options)


def docker(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    given = {"cwd": ROOT, "capture_output": True, "text": True, "check": False, **options}
    return subprocess.run(["docker", *arguments], **given)


def expect(run: subprocess.CompletedProcess[str], otherwise: str) -> str:
    """What it printed. Raises Stop with its last line where it failed."""
    if run.returncode:
        raise Stop(f"{otherwise}: {last_line(run.stderr)}")
    return run.stdout


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no error message")


def parse(text: str) -> dict[str, Any]:
    """A JSON object, or an empty one for what is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
