"""Calls Docker and compose, for production and for development. Standard library only."""

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

from slipway.commands import ROOT
from slipway.commands.shared import inventory
from slipway.commands.shared.stop import Stop

PRODUCTION = ["docker", "compose"]


def development() -> list[str]:
    """How compose is called for development."""
    files = ["compose/base.yaml", "compose/dev.yaml", *(f"compose/{each.name}.dev.yaml" for each in inventory.all())]
    # .env lies beside compose.yaml, where compose does not look when given other files.
    settings = ["--env-file", ".env"] if (ROOT / ".env").exists() else []
    return [*PRODUCTION, *(word for file in files for word in ("--file", file)), *settings]


def compose(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs production's compose and captures its output. There is no timeout: halfway through a deploy, late is better
    than never."""
    return docker("compose", *arguments, **options)


def docker(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    # What it starts inherits production's lock, if this process holds it, and keeps it for as long as it runs.
    given = {"cwd": ROOT, "capture_output": True, "text": True, "check": False, "close_fds": False, **options}
    return subprocess.run(["docker", *arguments], **given)


def included(text: str, change: Callable[[list[str]], list[str]], name: str = "compose.yaml") -> str:
    """A file with one list, in block style, with another list. Raises Stop if it has no plain list."""
    lines = re.findall(r"^( +)- (\S*[^:\s])$", text, re.MULTILINE)
    block = "".join(f"{space}- {each}\n" for space, each in lines)
    if not lines or block not in text:
        raise Stop(f"the list in {name} is not a plain list of files any more")
    space = lines[0][0]
    return text.replace(block, "".join(f"{space}- {each}\n" for each in change([each for _, each in lines])))


def expect(run: subprocess.CompletedProcess[str], otherwise: str) -> str:
    """What the command printed. Raises Stop with its last line if it failed."""
    if run.returncode:
        raise Stop(f"{otherwise}: {last_line(run.stderr)}")
    return run.stdout


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no error message")


def build_problem(said: str, most: int = 20) -> str:
    """Why a build failed: the last lines of the step that did, `most` of them, or else the last line of all."""
    failed = re.search(r"^#(\d+) ERROR: ", said, re.MULTILINE)
    lines = re.findall(rf"^#{failed[1]} [\d.]+ (.*)", said, re.MULTILINE) if failed else []
    return "\n  ".join(lines[-most:] or [last_line(said)])


def parse(text: str) -> dict[str, Any]:
    """The text as a JSON object; an empty one if it is not an object."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
