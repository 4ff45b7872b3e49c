"""`make template-update`: brings in the template's changes since this fork was made from it, or last updated.

The kit, slipway/, is replaced as a whole. The rest is a three-way merge of contents, which needs no common history:
the difference between the template's two versions is applied here, and if both sides changed the same lines, there
is an ordinary conflict. Before that, both versions get what the fork did to all of its files: its name, and no
sample if the fork removed that.

A fork runs its own, old program. It finds out what to bring in, and hands over to the newer one: `take_up`.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slipway.commands import ROOT, rename
from slipway.commands.shared import git, merge
from slipway.commands.shared.stop import Stop

KIT = "slipway"
REFS = "refs/template"  # the template's branches and tags, apart from the fork's own
MAX_COMMITS = 20  # number of commits listed
OURS = ("CHANGELOG.md", rename.RECORD)  # files that a fork writes for itself
EDITS = ROOT / ".cache/kit-edits.patch"
# Generated from the rest, so that a conflict in them does not matter: `settle` generates them again.
MADE = {".env.example": "ours", "docs/configuration.md": "ours", "uv.lock": "theirs"}

UNDO = "To have it all as it was: git reset --hard"
DONE = f"Look at it with `git diff --cached`, run `make check`, and commit. {UNDO}"
CONFLICTS = f"""Both sides changed these: mend each and `git add` it, run `make lock docs check`, and commit.
{{}}
{UNDO}"""


def template_update(to: str = "", source: str = "", base: str = "", target: str = "") -> None:
    """Brings in the template's changes since.

    `base` and `target` are passed by an earlier program that hands over, so these names must not change.
    """
    if target:
        take_up(base, target, source)
        return
    git.refuse_unless_clean()
    record = read_record()
    source = source or record["template"]["source"]
    fetch(source)
    target = find(to)
    base = origin(record["template"], target)
    if not git.git("diff", "--name-only", base, target):
        print(f"There is nothing new: this fork has what {name_of(target)} of the template has.")
        return
    with checkout(target) as newer:
        if not (newer / KIT / "commands" / Path(__file__).name).exists():
            raise Stop(f"{name_of(target)} of the template is from before its kit had a folder: choose a later one")
        words = [f"source={source}", f"base={base}", f"target={target}"]
        command = [sys.executable, "-B", "-m", "slipway.commands", "template-update", *words]
        environment = os.environ | {"SLIPWAY_ROOT": str(ROOT)}
        sys.exit(subprocess.run(command, cwd=newer, env=environment, check=False).returncode)


def take_up(base: str, target: str, source: str) -> None:
    """Runs in the program of the commit that is brought in."""
    record = read_record()
    with git.rewriting():
        edited = put_kit_back(base)
        conflicts = bring_in(base, target, record["fork"])
        template = {"source": source, "version": name_of(target), "commit": target, "tree": contents(target)}
        rename.write_record(template, record["fork"])
        git.git("add", rename.RECORD)
        if not conflicts:
            settle()
    report(base, target, edited)
    if conflicts:
        sys.exit(CONFLICTS.format("\n".join(f"  {path}" for path in conflicts)))
    print(DONE)


def read_record() -> dict[str, Any]:
    if not (ROOT / rename.RECORD).exists():
        raise Stop(f"there is no {rename.RECORD}, which says what this fork is made from: `make rename` writes it")
    return rename.recorded()


def fetch(source: str) -> None:
    """Fetches the template's branches, tags and history."""
    if not source:
        raise Stop(f"where is the template? source=https://… says it, or `source` in {rename.RECORD}")
    specs = [f"+refs/heads/*:{REFS}/heads/*", f"+refs/tags/*:{REFS}/tags/*", f"+HEAD:{REFS}/newest"]
    run = subprocess.run(
        ["git", "fetch", "--quiet", "--no-tags", "--prune", "--", source, *specs],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"GIT_TERMINAL_PROMPT": "0"},
    )
    if run.returncode:
        said = (run.stderr.strip().splitlines() or ["git said nothing"])[0]
        raise Stop(f"{rename.public(source)} can't be fetched: {said}")


def find(wanted: str) -> str:
    """The commit of a tag, a branch or a hash; without one, that of the template's default branch."""
    places = [f"{REFS}/tags/{wanted}", f"{REFS}/heads/{wanted}", wanted] if wanted else [f"{REFS}/newest"]
    for place in places:
        commit = git.git(
            "rev-parse", "--quiet", "--verify", "--end-of-options", f"{place}^{{commit}}", check=False
        ).strip()
        if commit and git.git("for-each-ref", "--contains", commit, "--count=1", REFS):
            return commit
    tags = git.git("for-each-ref", "--sort=-creatordate", "--count=5", "--format=%(refname:lstrip=3)", f"{REFS}/tags")
    known = ", ".join(tags.split()) or "none"
    raise Stop(f"the template has no tag, branch or commit {wanted}; its newest tags: {known}")


def origin(template: dict[str, str], target: str) -> str:
    """The template's commit that this fork is based on."""
    for commit in (template["commit"], "HEAD"):
        if shared := git.git("merge-base", commit, target, check=False).strip():
            return shared
    began = git.git("rev-list", "--max-parents=0", "HEAD").split()
    known = {template["tree"], *map(contents, began)}
    history = git.git("log", "--format=%H %T", f"--glob={REFS}/*")
    for commit, tree_id in map(str.split, history.splitlines()):
        if tree_id in known:
            return commit
    raise Stop(
        f"no commit of the template has the contents that this fork began with: put the one that it was made from into"
        f" {rename.RECORD}, commit = …"
    )


def contents(commit: str) -> str:
    return git.git("rev-parse", f"{commit}^{{tree}}").strip()


def name_of(commit: str) -> str:
    """The template's tag for the commit, or its short hash."""
    tags = git.git("for-each-ref", "--points-at", commit, "--format=%(refname:lstrip=3)", f"{REFS}/tags").split()
    return tags[-1] if tags else commit[:12]


def put_kit_back(base: str) -> list[str]:
    """Restores the kit as the template had it; edits to it are kept as a patch, and the edited files returned."""
    if not (edited := git.git("diff", "--name-only", "--no-renames", base, "HEAD", "--", KIT).splitlines()):
        return []
    EDITS.parent.mkdir(exist_ok=True)
    EDITS.write_text(git.git("diff", "--binary", base, "HEAD", "--", KIT))
    git.git("rm", "--quiet", "-r", "--force", KIT)
    git.git("checkout", base, "--", KIT)
    return edited


def bring_in(base: str, target: str, fork: dict[str, Any]) -> list[str]:
    """Applies the difference between the two to index and tree; returns the paths with conflicts."""
    head = rename.head_of(ROOT)
    found = merge.apply(mapped(base, fork, head), mapped(target, fork, head), f"the template's {name_of(target)}")
    for path in set(found) & MADE.keys():
        git.git("checkout", f"--{MADE[path]}", "--", path)
        git.git("add", "--", path)
    return [path for path in found if path not in MADE]


def mapped(commit: str, fork: dict[str, Any], head: str) -> str:
    """The template's tree at the commit, with what this fork did to all of it; returns the tree's hash."""
    with checkout(commit) as root:
        rename.put_name(root, fork["name"], fork["title"])
        rename.put_head(root, head)
        if not fork["sample"]:
            # By the commit's own program, which knows the sample of that version.
            remove = [sys.executable, "-B", "-c", "from slipway.commands import remove_sample; remove_sample.remove()"]
            subprocess.run(remove, cwd=root, check=True, env=os.environ | {"SLIPWAY_ROOT": str(root)})
        for name in OURS:
            (root / name).unlink(missing_ok=True)
        git.git("add", "--all", root=root)
        return git.git("write-tree", root=root).strip()


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A separate directory with the commit's files."""
    with tempfile.TemporaryDirectory(prefix="template-") as directory:
        root = Path(directory, "tree")
        git.git("-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach", str(root), commit)
        try:
            yield root
        finally:
            git.git("worktree", "remove", "--force", str(root))


def settle() -> None:
    """Updates what is generated from the merged files: the lock, and the documented settings."""
    for words, what in ((("lock",), "the lock"), (("docs",), "the documented settings")):
        run = subprocess.run(
            ["make", "--silent", *words], cwd=ROOT, env=without_ours(), capture_output=True, text=True, check=False
        )
        if run.returncode:
            said = [line for line in run.stderr.strip().splitlines() if not line.startswith("make: ***")]
            print(f"Bring {what} up to date yourself, `make {words[0]}`: {(said or ['no error message'])[-1]}")
    git.git("add", "--all")


def without_ours() -> dict[str, str]:
    """The environment without the variables that point to this program's own location."""
    return {name: value for name, value in os.environ.items() if name not in ("SLIPWAY_ROOT", "MAKEFLAGS", "MAKELEVEL")}


def report(base: str, target: str, edited: list[str]) -> None:
    """Prints what was brought in: the template's commits, and the files that changed here."""
    log = git.git("log", "--oneline", "--no-decorate", f"{base}..{target}").splitlines()
    print(f"From {name_of(base)} to {name_of(target)} of the template, {len(log)} commits:\n")
    print("\n".join(f"  {line}" for line in log[:MAX_COMMITS]))
    if len(log) > MAX_COMMITS:
        print(f"  and {len(log) - MAX_COMMITS} more: git log {base[:12]}..{target[:12]}")
    print(f"\n{git.changes()}\n", flush=True)
    if edited:
        print(f"The kit is the template's again, whole. You had edited {', '.join(edited)}: the edits are kept in")
        print(f"{EDITS.relative_to(ROOT)}, and docs/architecture.md says where each kind of change has its place.\n")
