"""The working tree, for the tools that rewrite it: it must be clean, and is restored if a tool fails."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway.commands import ROOT
from slipway.commands.shared.stop import Stop


def git(*arguments: str, root: Path = ROOT, check: bool = True) -> str:
    """What git prints. Raises CalledProcessError if it fails, unless told not to check."""
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=check).stdout


def tracked(root: Path = ROOT) -> list[str]:
    """The paths that git tracks, relative to the root."""
    return [name for name in git("ls-files", "-z", root=root).split("\0") if name and (root / name).is_file()]


def files(root: Path = ROOT) -> list[str]:
    """The files that git tracks, and new ones that it does not ignore; the same files in a source archive, too."""
    listed = ("ls-files", "-z", "--others", "--exclude-standard")
    try:
        listing = git(*listed, "--cached", root=root)
    except subprocess.CalledProcessError:  # not a repository: use an empty one elsewhere, which tracks nothing yet
        with tempfile.TemporaryDirectory() as empty:
            git("init", "--quiet", empty, root=root)
            listing = git("--git-dir", f"{empty}/.git", "--work-tree", ".", *listed, root=root)
    return [name for name in listing.split("\0") if name and (root / name).is_file()]


def refuse_unless_clean() -> None:
    """Raises Stop if there is anything that git could not restore."""
    run = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        raise Stop("this is not a git repository, so nothing could be undone: `git init`, then commit")
    if changes := run.stdout.splitlines():
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        raise Stop(f"{changes[0][3:]}{more} is not committed: commit or stash first, then run it again")


@contextmanager
def rewriting() -> Iterator[None]:
    """Restores a tree that was clean if the work inside fails or is interrupted."""
    try:
        yield
    except BaseException:
        git("reset", "--quiet", "--hard")
        git("clean", "--quiet", "--force", "-d")
        raise


def changes() -> str:
    """What differs from the last commit, one line a file: `M  README.md`; A is new, D is gone."""
    listing = git("status", "--porcelain", "--untracked-files=all", "--no-renames").splitlines()
    return "\n".join(f"{line[:2].strip().replace('??', 'A')}  {line[3:]}" for line in listing)
