"""`make lint`: every check that reads the sources without running them; all of them run, and all errors are shown."""

import os
import subprocess
import sys
from pathlib import Path

from slipway.commands import ROOT
from slipway.commands.shared import git, prose
from slipway.commands.shared.stop import Stop

BIN = Path(sys.executable).parent


def lint() -> None:
    failed = [name for name, command in checks().items() if not passes(name, command)]
    failed += [] if reads_well() else ["prose"]
    if failed:
        raise Stop(f"{', '.join(failed)} found something to fix")


def checks() -> dict[str, list[str]]:
    files = [ROOT / name for name in git.files()]
    scripts = [path for path in files if is_shell(path)]
    dockerfiles = [path for path in files if path.name.endswith("Dockerfile")]
    return {
        "ruff": ["ruff", "check", "--quiet", "."],
        "ruff format": ["ruff", "format", "--check", "--quiet", "."],
        "mypy": ["mypy"],
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
        env=os.environ | {"MYPYPATH": sources()},
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"{'ok    ' if run.returncode == 0 else 'FAILED'} {name}")
    if run.returncode:
        print(run.stdout + run.stderr)
    return run.returncode == 0


def sources() -> str:
    """Where mypy finds the packages of libs/ and services/: its own setting, mypy_path, takes no patterns."""
    return os.pathsep.join(map(str, sorted([*ROOT.glob("libs/*/src"), *ROOT.glob("services/*/src")])))


def reads_well() -> bool:
    found = list(prose.problems(ROOT, git.files()))
    print(f"{'FAILED' if found else 'ok    '} prose", *found, sep="\n")
    return not found


def is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(64)
    return first.startswith(b"#!") and (b"bash" in first or b"/sh" in first)
