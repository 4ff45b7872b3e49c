"""The templates of `make service`: the files of slipway/templates/service, overridden by those of templates/service
if a fork has its own."""

import fnmatch
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import jinja2

from slipway.commands import ROOT
from slipway.commands.shared import git

FOLDERS = ("slipway/templates", "templates")  # the later one wins
SUFFIX = ".jinja"
FIRST_PARTY = ("chassis", "chassis_testing")  # these sort with the service among a Python file's imports


class Unknown(Exception):
    """These templates are not in this repository."""


def newest() -> str:
    """The templates of the last commit, as a service records what it was made from: git's hashes of the folders."""
    found = [git.git("rev-parse", "--quiet", "--verify", f"HEAD:{each}", check=False).strip() for each in FOLDERS]
    return "+".join(filter(None, found))


def render(templates: str, words: Mapping[str, object]) -> str:
    """The files of a new service, as a git tree with the repository's paths. Raises Unknown."""
    files = {path: text for name in templates.split("+") for path, text in archived(name)}
    only = tomllib.loads(files.pop("service.toml").decode())["only"]
    jinja = jinja2.Environment(keep_trailing_newline=True, undefined=jinja2.StrictUndefined)  # noqa: S701 - no HTML
    words = {**words, "template": templates}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, content in files.items():
            place = jinja.from_string(path.removeprefix("service/")).render(words)
            if all(
                jinja.compile_expression(condition)(**words)
                for pattern, condition in only.items()
                if fnmatch.fnmatch(place.removesuffix(SUFFIX), pattern)
            ):
                target = folder / place.removesuffix(SUFFIX)
                target.parent.mkdir(parents=True, exist_ok=True)
                is_template = path.endswith(SUFFIX)
                target.write_bytes(
                    jinja.from_string(content.decode()).render(words).encode() if is_template else content
                )
        sort_imports(folder, str(words["name"]))
        return written(folder)


def archived(name: str) -> Iterator[tuple[str, bytes]]:
    archive = subprocess.run(["git", "archive", name], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        raise Unknown(name)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        for member in files:
            if member.isfile() and (file := files.extractfile(member)):
                yield member.name, file.read()


def sort_imports(folder: Path, name: str) -> None:
    """Sorts the imports: the position of the service's own depends on its name."""
    known = f"lint.isort.known-first-party = {[*FIRST_PARTY, name]}"
    ruff: list[str | Path] = [
        Path(sys.executable).parent / "ruff",
        "check",
        "--quiet",
        "--fix",
        "--isolated",
        "--line-length",
        "120",
        "--select",
        "I",
    ]
    subprocess.run([*ruff, "--config", known, folder], check=True)


def written(folder: Path) -> str:
    """Writes the folder as a tree to git's object store; the repository's own index is left alone."""
    environment = os.environ | {"GIT_INDEX_FILE": str(folder.with_name(f"{folder.name}.index"))}
    command = ["git", "--git-dir", git.git("rev-parse", "--absolute-git-dir").strip(), "--work-tree", str(folder)]
    try:
        subprocess.run([*command, "add", "--all", "--force", "."], cwd=folder, env=environment, check=True)
        run = subprocess.run([*command, "write-tree"], env=environment, capture_output=True, text=True, check=True)
    finally:
        Path(environment["GIT_INDEX_FILE"]).unlink(missing_ok=True)
    return run.stdout.strip()
