"""The tasks that make a fork your own, ticked off automatically. Not in the image: it reads the repository's files."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dotenv import dotenv_values
from flask import Flask


class Task(NamedTuple):
    """What to do, how, and whether it is done; `command` is what to type or to edit."""

    title: str
    text: str
    command: str
    done: bool


class Checklist(NamedTuple):
    """`page` is the template to begin with, as a developer would type it."""

    tasks: list[Task]
    page: str

    @property
    def done(self) -> int:
        return sum(task.done for task in self.tasks)


def read(app: Flask) -> Checklist | None:
    """None if the app does not run from its repository."""
    page = Path(app.root_path, "templates/home.html")
    root = next((each for each in page.parents if (each / "uv.lock").exists()), None)
    return Checklist(list(tasks(root)), os.fspath(page.relative_to(root))) if root else None


def tasks(root: Path) -> Iterable[Task]:
    sample = False
    sample = True  # sample
    renamed = (root / ".slipway.toml").exists()
    yield Task("Give it your name", "It still has the template's.", "make rename name=…", renamed)
    yield Task("Remove the sample", "It is there to be copied from, then deleted.", "make remove-sample", not sample)
    yield Task("Set the secrets", "Production starts with your own, or not at all.", "make init", has_secrets(root))
    yield Task("Set the domain", "Its certificate is issued automatically.", "SITE_ADDRESS= in .env", has_domain(root))


def has_secrets(root: Path) -> bool:
    with suppress(OSError):
        return any((root / "secrets").iterdir())
    return False


def has_domain(root: Path) -> bool:
    address = dotenv_values(root / ".env").get("SITE_ADDRESS") or "localhost"
    return not address.removeprefix("http://").startswith(("localhost", ":", "127."))
