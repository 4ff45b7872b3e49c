"""A three-way merge of the difference between two trees into this one, like git's but a little finer.

To git, edits of adjacent lines are a conflict. Here only edits of the same lines are: a template that changes
the line next to a fork's own edit needs no decision.
"""

import difflib
import os
import re
import subprocess
import tempfile
from pathlib import Path

from slipway.commands import ROOT
from slipway.commands.shared import git
from slipway.commands.shared.stop import Stop

SYNTHETIC = {f"GIT_{role}_{part}": "template" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
MARK = 37  # length of a conflict's markers: no file has lines that begin like this
HUNK = re.compile(
    rf"^<{{{MARK}}}.*\n((?:.*\n)*?)^\|{{{MARK}}}.*\n((?:.*\n)*?)^={{{MARK}}}\n((?:.*\n)*?)^>{{{MARK}}}.*\n",
    re.MULTILINE,
)

Change = tuple[int, int, list[str]]  # first line, last line, and what replaces them


def apply(before: str, after: str, name: str) -> list[str]:
    """Merges the difference between two trees into index and working tree; returns the paths with conflicts.

    A conflict's markers name the other side. Raises Stop.
    """
    base = commit(before, "The state before")
    picked = commit(after, name, "-p", base)
    # A cherry-pick is the three-way merge whose base is the picked commit's parent.
    pick = ("git", "cherry-pick", "--no-commit", "--allow-empty", picked)
    run = subprocess.run(pick, cwd=ROOT, capture_output=True, text=True, check=False)
    found = conflicts()
    if run.returncode and not found:
        raise Stop((run.stderr.strip().splitlines() or ["git said nothing"])[0])
    for path in found:
        settle(path)
    return conflicts()


def conflicts() -> list[str]:
    return git.git("diff", "--name-only", "--diff-filter=U", "-z").split("\0")[:-1]


def settle(path: str) -> None:
    """Resolves a conflict that is not one here."""
    stages = dict(re.findall(r"^\d+ (\w+) (\d)\t", git.git("ls-files", "--unmerged", "--", path), re.MULTILINE))
    blobs = {stage: blob for blob, stage in stages.items()}
    if set(blobs) == {"1", "2", "3"} and (text := merged(*(blobs[stage] for stage in "123"))) is not None:
        (ROOT / path).write_text(text)
        git.git("add", "--", path)


def merged(*blobs: str) -> str | None:
    """The file merged from base, ours and theirs; None if both have changed the same lines."""
    with tempfile.TemporaryDirectory() as folder:
        base, ours, theirs = (Path(folder, name) for name in ("base", "ours", "theirs"))
        try:
            for path, blob in zip((base, ours, theirs), blobs, strict=True):
                path.write_text(git.git("cat-file", "blob", blob))
        except UnicodeDecodeError:
            return None  # a picture
        command = ["git", "merge-file", "--stdout", "--diff3", f"--marker-size={MARK}"]
        text = subprocess.run([*command, ours, base, theirs], capture_output=True, text=True, check=False).stdout
    hunks = [hunk_merged(*(part.splitlines(keepends=True) for part in hunk)) for hunk in HUNK.findall(text)]
    parts = [hunk for hunk in hunks if hunk is not None]
    if len(parts) < len(hunks):
        return None
    found = iter(parts)
    return HUNK.sub(lambda _: "".join(next(found)), text)


def hunk_merged(ours: list[str], base: list[str], theirs: list[str]) -> list[str] | None:
    """The lines with both sides' edits; None if two of them touch the same lines, or add at the same place."""
    both = sorted(set_of(changes(base, ours) + changes(base, theirs)))
    lines, done = [], 0
    for number, (start, end, new) in enumerate(both):
        if number and overlap(both[number - 1], (start, end, new)):
            return None
        lines += [*base[done:start], *new]
        done = end
    return lines + base[done:]


def changes(base: list[str], edited: list[str]) -> list[Change]:
    codes = difflib.SequenceMatcher(None, base, edited, autojunk=False).get_opcodes()
    return [(i, j, edited[k:m]) for tag, i, j, k, m in codes if tag != "equal"]


def set_of(all_changes: list[Change]) -> list[Change]:
    """Each edit once: one that both sides made is not a conflict."""
    return [each for number, each in enumerate(all_changes) if each not in all_changes[:number]]


def overlap(first: Change, second: Change) -> bool:
    return second[0] < first[1] or first[:2] == second[:2]


def commit(tree_id: str, message: str, *options: str) -> str:
    command = ["git", "commit-tree", tree_id, "-m", message, *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=os.environ | SYNTHETIC)
    return run.stdout.strip()
