"""`make rename name=myshop`: gives a fork its own name, once. `.slipway.toml` then says what it is made from.

`title="My Shop"` is the name as people spell it. Existing secrets are kept, missing ones are created.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from slipway.commands import ROOT, init
from slipway.commands.shared import git, names
from slipway.commands.shared.stop import Stop

RECORD = ".slipway.toml"
# Where the name stands as a word of its own; elsewhere only compose files contain it.
PROSE = (".env.example", "*.md", "docs/**/*", ".devcontainer/**/*", ".vscode/**/*")
SETTINGS = (".env.example", "docs/configuration.md")
COMPOSE = ("compose.yaml", "compose/*.yaml")
SAMPLE = "services/web/src/web/notes"

HEAD = """# {title}

Made from [Slipway]({link}) {version}: containerized Python web apps on Postgres, behind Caddy or nginx.
`make dev` runs it with hot reload, `docker compose up` runs the same code in production, and what it
promises about containers is tested on real containers (`docs/promises.md`). `make template-update` brings
in what the template learnt since.

"""
CHANGELOG = """# Changelog

## Unreleased

- {title}, made from Slipway {version}.
"""
NEXT = """
Look at it with `git diff`, run `make check`, and commit. Yours to decide: who holds the copyright (LICENSE; the
former line stays beside yours), and which licence the images name (docker/service.Dockerfile). Containers,
volumes and images named {former} on this machine belong to the former name: their data is not moved, and
`docker compose --project-name {former} down` stops them."""


def rename(name: str = "", title: str = "") -> None:
    """Gives the fork its own name, once."""
    title = title or name.title()
    if problem := wrong(name, title):
        raise Stop(problem)
    git.refuse_unless_clean()
    former = current(ROOT)
    with git.rewriting():
        origin = template()
        put_name(ROOT, name, title)
        take_over(origin, name, title)
    print(f"It is called {title} now, {name} to the machines:\n\n{git.changes()}\n", flush=True)
    init.init()
    print(NEXT.format(former=former))


def wrong(name: str, title: str) -> str | None:
    """What is wrong with these, if anything."""
    if not name:
        return "name is not set: make rename name=myshop"
    if problem := names.problem(name):
        return problem
    if '"' in title or "\\" in title or not title.isprintable():
        return f"the title {title!r} must do without quotes, backslashes and control characters"
    if (ROOT / RECORD).exists():
        return f"this fork is called {recorded()['fork']['name']} already ({RECORD})"
    if name == current(ROOT):
        return f"it is called {name} already, as the template is: choose a name of your own"
    return None


def current(root: Path) -> str:
    """The project's name, as compose has it."""
    name: str = re.findall(r"^name: (\S+)$", (root / "compose.yaml").read_text(), re.MULTILINE)[0]
    return name


def recorded() -> dict[str, Any]:
    return tomllib.loads((ROOT / RECORD).read_text())


def template() -> dict[str, str]:
    """Where this tree comes from: all that an update needs to find that commit again."""
    remotes = git.git("remote").split()
    remote = next((each for each in ("template", "upstream", "origin") if each in remotes), None)
    return {
        "source": public(git.git("remote", "get-url", remote).strip()) if remote else "",
        "version": git.git("describe", "--tags", "--always").strip(),
        "commit": git.git("rev-parse", "HEAD").strip(),
        # If the fork's history has a first commit of its own, the template's commit is the one with these contents.
        "tree": git.git("rev-parse", "HEAD^{tree}").strip(),
    }


def public(url: str) -> str:
    """The address without the login that it may contain."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def put_name(root: Path, name: str, title: str) -> None:
    """Replaces the current name by the new one in the tree at `root`, and the current title by the new title."""
    former = current(root)
    spelt: str = re.findall(r"\A# (.+)", (root / "README.md").read_text())[0]
    for path in files(root, COMPOSE):
        replace(path, rf"^name: {former}(?=-dev$|$)", f"name: {name}")
        replace(path, rf"(?<=IMAGE_PREFIX:-){former}(?=/)", name)
    for path in files(root, PROSE):
        replace(path, rf"(?<![\w.]){re.escape(spelt)}(?!\w)", title)
        # Not the kit's folder, module and table: slipway/, slipway.commands, tool.slipway.
        replace(path, rf"(?<![\w./]){former}(?![\w/]|\.\w)", name)
    for path in files(root, SETTINGS):
        replace(path, rf"(?<=[=`]){former}(?=/)", name)  # the default of IMAGE_PREFIX


def files(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The files that git tracks; others may be a user's own."""
    known = set(git.tracked(root))
    found = {path for pattern in patterns for path in root.glob(pattern)}
    return sorted(path for path in found if str(path.relative_to(root)) in known)


def replace(path: Path, pattern: str, text: str) -> None:
    try:
        before = path.read_text()
    except UnicodeDecodeError:
        return  # a picture
    after = re.sub(pattern, lambda _: text, before, flags=re.MULTILINE)
    if after != before:
        path.write_text(after)


def take_over(origin: dict[str, str], name: str, title: str) -> None:
    """Writes the fork's own README head and CHANGELOG, and the record of what it is made from."""
    version, link = origin["version"], origin["source"] or RECORD
    put_head(ROOT, HEAD.format(title=title, version=version, link=link))
    (ROOT / "CHANGELOG.md").write_text(CHANGELOG.format(title=title, version=version))
    write_record(origin, {"name": name, "title": title, "sample": (ROOT / SAMPLE).is_dir()})


def put_head(root: Path, head: str) -> None:
    """Replaces the README's beginning, up to its first section."""
    readme = root / "README.md"
    readme.write_text(head + readme.read_text()[len(head_of(root)) :])


def head_of(root: Path) -> str:
    head, heading, _ = (root / "README.md").read_text().partition("\n## ")
    return head + "\n" if heading else head


def write_record(origin: dict[str, str], fork: dict[str, str | bool]) -> None:
    def table(values: Mapping[str, str | bool]) -> str:
        return "".join(f"{key:<8}= {quoted(value)}\n" for key, value in values.items())

    text = "# What this fork is made from: `make template-update` reads it and brings it up to date.\n"
    (ROOT / RECORD).write_text(f"{text}[template]\n{table(origin)}\n[fork]\n{table(fork)}")


def quoted(value: str | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
