"""Settings of the tools: from the environment first, then from `.env`, as compose reads them. Nothing else on the
host reads that file; slipway/proofs/stack/test_tools.py compares the result with `docker compose config`.
"""

import os
import re
from pathlib import Path

from slipway.commands import ROOT
from slipway.commands.shared.stop import Stop

FILE = ROOT / ".env"
# One setting with its value, or none; quotes may span several lines. A name alone takes the environment's value.
SETTING = re.compile(
    r"""
    [^\S\n]* (?: (?:export[^\S\n]+)? (?P<name>[\w.\[\]-]+) [^\S\n]*
                 (?: [=:] [^\S\n]* (?: '(?P<single>(?:\\.|[^'\\])*)' [^\S\n]* (?:\#[^\n]*)?
                                   | "(?P<double>(?:\\.|[^"\\])*)" [^\S\n]* (?:\#[^\n]*)?
                                   | (?P<plain>(?!["'])[^\n]*) ) )?
             | \#[^\n]* )? (?:\n|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
VARIABLE = re.compile(r"\$(?:(\$)|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?[+-])([^{}$]*))?\}|\{)", re.ASCII)
# Names of stages in the Dockerfile: it would look for another one in the registry.
CHOICES = {"SERVER": ("gunicorn", "uwsgi"), "VARIANT": ("full", "minimal")}
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", "$": "$$"}


class Unreadable(Stop):
    """A line that compose might read differently: its number and name."""


def get(name: str, default: str = "") -> str:
    """The setting's value; an empty one counts as not set."""
    return os.environ.get(name) or in_file().get(name) or default


def wrong_choice() -> str | None:
    """What is wrong with SERVER or VARIANT, if anything is."""
    for name, known in CHOICES.items():
        if (value := get(name, known[0])) not in known:
            return f"{name} must be {' or '.join(known)}, not {value!r}"
    return None


def in_file(path: Path | None = None) -> dict[str, str]:
    """What `.env` sets; if a name is set twice, the last one counts. Raises Unreadable."""
    path = path or FILE
    text = path.read_text(encoding="utf-8-sig", errors="replace") if path.exists() else ""
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        setting = SETTING.match(text, position)
        try:
            if not setting:
                raise ValueError
            if (value := value_of(setting, found)) is not None:
                found[setting["name"]] = value
        except ValueError:
            number, line = text.count("\n", 0, position) + 1, text[position:].partition("\n")[0]
            name = re.split("[=:]", line)[0].strip()
            raise Unreadable(
                f"{path.name}, line {number}, can't be understood ({name}): NAME=value, NAME='value' or NAME=\"value\","
                " and nothing but a comment after it"
            ) from None
        position = setting.end()
    return found


def value_of(setting: re.Match[str], known: dict[str, str]) -> str | None:
    if setting["single"] is not None:
        return setting["single"].replace("\\'", "'")
    if setting["double"] is not None:
        return substituted(unescaped(setting["double"]), known)
    if setting["plain"] is not None:
        return substituted(setting["plain"].partition(" #")[0].rstrip(), known)
    return None


def unescaped(text: str) -> str:
    """Resolves the escapes of double quotes. Raises ValueError for characters given by number, which no value needs."""
    if re.search(r"(?<!\\)(?:\\\\)*\\[0c]", text):
        raise ValueError
    text = re.sub(r'\\(\\|")', lambda match: match[0] if match[1] == "\\" else '"', text)
    return re.sub(r"\\([abfnrtv\\$])", lambda match: ESCAPES[match[1]], text)


def substituted(text: str, known: dict[str, str]) -> str:
    """Substitutes variables, from the environment or else from the lines above. Raises ValueError."""

    def value(match: re.Match[str]) -> str:
        dollar, plain, braced, operator, word = match.groups()
        if dollar:
            return "$"
        if not (name := plain or braced):
            raise ValueError
        present = os.environ.get(name, known.get(name))
        given = bool(present) if operator and operator[0] == ":" else present is not None
        if operator and operator[-1] == "+":
            return word if given else ""
        return (present if given else word) or ""

    return VARIABLE.sub(value, text)
