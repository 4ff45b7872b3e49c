"""What a reader would stumble over: words that plain English avoids, and long lines of prose in Markdown."""

import re
from collections.abc import Iterator
from pathlib import Path

WORDS = re.compile(r"\b([Aa]new|[Ww]hoever|[Aa]nybody|[Nn]obody|[Ss]omebody|[Ff]or want of)\b")
LINK = re.compile(r"\]\([^)]*\)")
MAX_LINE = 110  # characters, without the targets of links
PROJECT = re.compile(r"services/[^/]+/ui/")  # npm's, written by its generators
TEXTS = {"", ".css", ".html", ".jinja", ".js", ".md", ".mako", ".py", ".sh", ".sql", ".toml", ".yaml"}


def problems(root: Path, names: list[str]) -> Iterator[str]:
    for name in names:
        path = root / name
        left_out = PROJECT.match(name) or "results" in path.parts or path.name == Path(__file__).name
        if path.suffix in TEXTS and not left_out:
            yield from (f"{name}:{number}: {what}" for number, what in of_file(path))


def of_file(path: Path) -> Iterator[tuple[int, str]]:
    in_code = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        in_code ^= line.strip().startswith("```")
        if found := WORDS.search(line):
            yield number, f"{found[0]!r}: say it plainly"
        # Tables, links by themselves and code can't be wrapped.
        wraps = path.suffix == ".md" and not in_code and not line.strip().startswith(("|", "[", "!", "<", "`"))
        shown = LINK.sub("]", line)
        if wraps and len(shown) > MAX_LINE:
            yield number, f"{len(shown)} characters, {MAX_LINE} is the most"
