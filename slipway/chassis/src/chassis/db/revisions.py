"""Which revision of the database this code needs, read from its migrations without loading Alembic."""

import ast
from collections.abc import Iterator
from pathlib import Path


class Revisions:
    """The revisions in a service's `migrations/versions`, and the newest of them, `heads`."""

    def __init__(self, directory: Path) -> None:
        self.known: set[str] = set()
        older: set[str] = set()
        for path in directory.glob("versions/*.py"):
            for name, value in assigned(path.read_text(encoding="utf-8")):
                if name in ("revision", "down_revision"):
                    (self.known if name == "revision" else older).update(texts(value))
        self.heads = self.known - older

    def behind(self, current: set[str]) -> bool:
        """Whether a database at `current` lacks a migration of this code.

        A revision that this code does not know is a later one: the next release has already migrated, and this one
        keeps serving until it is replaced.
        """
        if not self.known:
            return False
        return not current or bool(current & (self.known - self.heads))


def assigned(source: str) -> Iterator[tuple[str, ast.expr]]:
    """Each name that a module assigns, alone or in a row with others, and its expression; of one that can't be
    compiled, nothing."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return
    for node in body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            targets: list[ast.expr] = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            for target, value in (pair for each in targets for pair in matched(each, node.value)):
                if isinstance(target, ast.Name):
                    yield target.id, value


def matched(target: ast.expr, value: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        yield from zip(target.elts, value.elts, strict=False)
    else:
        yield target, value


def texts(value: ast.expr) -> set[str]:
    return {each.value for each in ast.walk(value) if isinstance(each, ast.Constant) and isinstance(each.value, str)}
