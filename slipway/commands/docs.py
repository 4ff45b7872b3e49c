"""`make docs`: writes `.env.example` and `docs/configuration.md` from the settings in code."""

import difflib
import importlib
import re
import sys
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import chassis.settings
from slipway.commands import ROOT
from slipway.commands.shared import inventory
from slipway.commands.shared.stop import Stop

MEANINGS = "compose/settings.toml"
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?")
BY_MAKE = {"BUILT", "DEV_GID", "DEV_INPUTS", "DEV_UID", "REVISION", "SOURCE", "VERSION"}  # never set by a person

ACTIVE = {"SITE_ADDRESS": "localhost"}  # compose refuses to start without it


class Setting(NamedTuple):
    name: str
    default: str
    meaning: str
    values: str = ""


def write() -> None:
    for path, text in documents().items():
        (ROOT / path).write_text(text)


def check() -> None:
    """Names a file that differs, without writing anything, so that they can't drift from the code."""
    wrong = [path for path, text in documents().items() if differs(ROOT / path, text)]
    if wrong:
        raise Stop(f"{', '.join(wrong)} differs from what it is made from: run `make docs`")


def documents() -> dict[str, str]:
    groups = {"Deployment, read by compose": deployment()}
    groups["Every service"] = described(chassis.settings.Settings)
    groups |= {f"The service {name}": settings for name, settings in own_settings().items()}
    return {".env.example": example(groups), "docs/configuration.md": page(groups)}


def differs(path: Path, text: str) -> bool:
    current = path.read_text() if path.exists() else ""
    if current != text:
        print("\n".join(difflib.unified_diff(current.splitlines(), text.splitlines(), lineterm="")))
    return current != text


def deployment() -> list[Setting]:
    """Every variable of the compose files; it is an error if compose/settings.toml does not explain one."""
    defaults: dict[str, str] = {}
    files = [sorted(ROOT.glob(pattern)) for pattern in ("compose.yaml", "compose/*.yaml", "slipway/compose/*.yaml")]
    for path in chain(*files):
        for name, default in VARIABLE.findall(path.read_text()):
            defaults.setdefault(name, default)
    explained = tomllib.loads((ROOT / MEANINGS).read_text()) | {
        each.port_setting: f"The port of {each.name} in `make dev`." for each in others()
    }
    services = {each.name.upper() for each in fields(chassis.settings.Settings)}  # which the next table explains
    if unexplained := defaults.keys() - explained.keys() - BY_MAKE - services:
        raise Stop(f"{MEANINGS} does not explain {', '.join(sorted(unexplained))}: add what each one means")
    return [Setting(name, defaults[name], meaning) for name, meaning in explained.items() if name in defaults]


def others() -> list[inventory.Service]:
    """The services that use a port other than DEV_PORT in development."""
    return [each for each in inventory.all() if each.serves and each.port != inventory.FIRST_PORT]


def own_settings() -> dict[str, list[Setting]]:
    """What each service adds to the chassis's settings; services that add nothing are left out."""
    sys.path[:0] = [str(each.directory / "src") for each in inventory.all()]  # even one that is not installed yet
    shared = {each.name for each in fields(chassis.settings.Settings)}
    found: dict[str, list[Setting]] = {}
    for each in inventory.all():
        settings = described(importlib.import_module(f"{each.name}.settings").Settings, without=shared)
        found |= {each.name: settings} if settings else {}
    return found


def described(kind: type[chassis.settings.Settings], without: Collection[str] = ()) -> list[Setting]:
    types = get_type_hints(kind)
    return [
        Setting(
            each.name.upper() + (" or _FILE" if each.metadata["secret"] else ""),
            str(each.default),
            each.metadata["help"],
            allowed(types[each.name], each.metadata),
        )
        for each in fields(kind)
        if each.name not in without
    ]


def allowed(kind: type, metadata: Mapping[str, Any]) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    if metadata["minimum"] is not None:
        return f"{metadata['minimum']} to {metadata['maximum']}"
    return "true, false" if kind is bool else ""


def example(groups: dict[str, list[Setting]]) -> str:
    lines = [
        "# Settings and their defaults. `make init` copies this file to .env; take a line's # away to change",
        "# it there. Secrets belong in secrets/, not here: `docker inspect` shows what stands here.",
    ]
    for title, settings in groups.items():
        lines += ["", f"# --- {title} ---"]
        for each in settings:
            name = each.name.removesuffix(" or _FILE")
            line = f"{name}={ACTIVE[name]}" if name in ACTIVE else f"#{name}={each.default}"
            lines += ["", f"# {each.meaning}", line]
    return "\n".join(lines) + "\n"


def page(groups: dict[str, list[Setting]]) -> str:
    lines = [
        "# Configuration",
        "",
        "Written by `make docs` from the settings in code. Settings come from the environment, then from",
        "`.env`. A secret `X` may come from the file that `X_FILE` names; both set is an error. A start with",
        "wrong settings stops with one message that names every error, and never shows a secret.",
    ]
    for title, settings in groups.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| setting | default | values | meaning |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| `{each.name}` | {f'`{each.default}`' if each.default else ''} | {each.values} | {each.meaning} |"
            for each in settings
        ]
    return "\n".join(lines) + "\n"
