"""The dependencies declared now against those at this process's start: a failed import alone would not say why."""

import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any


class Declared:
    """The dependencies in each pyproject.toml, and the lock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.known = self.read()

    def notices(self) -> list[str]:
        """What to do if they differ from what runs; empty if an edit changed none of them."""
        differing = [name for name, value in self.read().items() if self.known.get(name) != value]
        if not differing:
            return []
        text = f"{', '.join(differing)} changed: stop `make dev` and start it again, which installs what is new."
        return [text if "uv.lock" in differing else f"{text} First run `make lock`."]

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path in (self.root / "pyproject.toml", *self.root.glob("*/*/pyproject.toml")):
            with suppress(OSError, tomllib.TOMLDecodeError):
                table = tomllib.loads(path.read_text())
                project = table.get("project", {})
                parts = [project.get(name) for name in ("dependencies", "optional-dependencies", "requires-python")]
                found[str(path.relative_to(self.root))] = [*parts, table.get("dependency-groups")]
        with suppress(OSError):
            found["uv.lock"] = (self.root / "uv.lock").read_bytes()
        return found
