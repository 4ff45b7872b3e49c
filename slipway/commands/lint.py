"""`make lint`: every check that reads the sources without running them; all of them run, and all errors are shown."""

import os
import re
import subprocess
import sys
from pathlib import Path

from slipway.commands import ROOT
from slipway.commands.shared import egress, git, prose
from slipway.commands.shared.stop import Stop

BIN = Path(sys.executable).parent
SOURCE = re.compile(r"(?:libs|services|slipway)/[^/]+/src(?=/.*\.py$)")


def lint() -> None:
    failed = [name for name, command in checks().items() if not passes(name, command)]
    failed += [name for name, fine in (("egress", has_ways_out), ("prose", reads_well)) if not fine()]
    if failed:
        raise Stop(f"{', '.join(failed)} found something to fix")


def checks() -> dict[str, list[str]]:
    names = git.files()
    files = [ROOT / name for name in names]
    scripts = [path for path in files if is_shell(path)]
    dockerfiles = [path for path in files if path.name.endswith("Dockerfile")]
    return {
        "ruff": ["ruff", "check", "--quiet", "."],
        "ruff format": ["ruff", "format", "--check", "--quiet", "."],
        "mypy": ["mypy", "slipway/commands", *sources(names)],
        "shellcheck": ["shellcheck", *map(str, scripts)],
        "hadolint": ["hadolint", *map(str, dockerfiles)],
        "zizmor": ["zizmor", "--offline", "--quiet", ".github/workflows"],
        "settings": [sys.executable, "-m", "slipway.commands", "docs-check"],
    }


def passes(name: str, command: list[str]) -> bool:
    program = BIN / command[0]
    run = subprocess.run(
        [str(program) if program.exists() else command[0], *command[1:]],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": os.pathsep.join(sources(git.files()))},  # where it finds each package
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"{'ok    ' if run.returncode == 0 else 'FAILED'} {name}")
    if run.returncode:
        print(run.stdout + run.stderr)
    return run.returncode == 0


def sources(names: list[str]) -> list[str]:
    """The folders `src` of libs, services and the kit that hold Python; not those that git left behind empty."""
    return sorted({match[0] for name in names if (match := SOURCE.match(name))})


def has_ways_out() -> bool:
    problem = egress.problem()
    print(f"FAILED egress\n{problem}" if problem else "ok     egress")
    return not problem


def reads_well() -> bool:
    found = list(prose.problems(ROOT, git.files()))
    print(f"{'FAILED' if found else 'ok    '} prose", *found, sep="\n")
    return not found


def is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(64)
    return first.startswith(b"#!") and (b"bash" in first or b"/sh" in first)
