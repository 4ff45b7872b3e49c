"""`make template-update`: brings in what the template learnt since this fork was made from it, or updated last.

The kit, slipway/, is replaced whole; the rest is a three-way merge of contents, with no history in common needed:
between the template as it was and as it is there is a difference, it is applied here, and where both sides changed the
same lines there is an ordinary conflict. Before that both of the template's sides get what the fork did to all of it:
its name, and no sample where that was removed.

A fork runs its own, old program. It finds out what to bring in, and hands over to the newer one: `take_up`.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway.commands import ROOT, merge, rename, tree

KIT = "slipway"
REFS = "refs/template"  # the template's branches and tags, apart from the fork's own
MOST = 20  # commits that are listed
OURS = ("CHANGELOG.md", rename.RECORD)  # files that begin anew in a fork
EDITS = ROOT / ".cache/kit-edits.patch"
# Made of the rest, so that a conflict in them is none: which side is made anew from, `settle` does it.
MADE = {".env.example": "ours", "docs/configuration.md": "ours", "uv.lock": "theirs"}

UNDO = "To have it all as it was: git reset --hard"
DONE = f"Look at it with `git diff --cached`, run `make check`, and commit. {UNDO}"
CONFLICTS = f"""Both sides changed these: mend each and `git add` it, run `make lock docs check`, and commit.
{{}}
{UNDO}"""


class Refused(Exception):
    """Nothing was changed; one line that says why and what to do."""


def main(wanted: str, source: str) -> None:
    tree.refuse_unless_clean("template-update")
    record = read_record()
    source = source or record["template"]["source"]
    fetch(source)
    target = find(wanted)
    base = origin(record["template"], target)
    if not tree.git("diff", "--name-only", base, target):
        print(f"There is nothing new: this fork has what {name_of(target)} of the template has.")
        return
    with checkout(target) as newer:
        if not (newer / KIT / "commands" / Path(__file__).name).exists():
            raise Refused(f"{name_of(target)} of the template is from before its kit had a folder: choose a later one")
        command = [sys.executable, "-B", "-m", __spec__.name, "take-up", base, target, source]
        sys.exit(
            subprocess.run(command, cwd=newer, env=os.environ | {"SLIPWAY_ROOT": str(ROOT)}, check=False).returncode
        )


def take_up(base: str, target: str, source: str) -> None:
    """In the program of the commit that is brought in; earlier ones call it, so its arguments stay what they are."""
    record = read_record()
    with tree.rewriting():
        edited = put_kit_back(base)
        conflicts = bring_in(base, target, record["fork"])
        template = {"source": source, "version": name_of(target), "commit": target, "tree": contents(target)}
        rename.write_record(template, record["fork"])
        tree.git("add", rename.RECORD)
        if not conflicts:
            settle()
    report(base, target, edited)
    if conflicts:
        sys.exit(CONFLICTS.format("\n".join(f"  {path}" for path in conflicts)))
    print(DONE)


def read_record() -> dict:
    if not (ROOT / rename.RECORD).exists():
        raise Refused(f"there is no {rename.RECORD}, which says what this fork is made from: `make rename` writes it")
    return rename.recorded()


def fetch(source: str) -> None:
    """The template's branches and tags, and its history."""
    if not source:
        raise Refused(f"where is the template? source=https://… says it, or `source` in {rename.RECORD}")
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
        raise Refused(f"{rename.public(source)} can't be fetched: {said}")


def find(wanted: str) -> str:
    """The commit of a tag, a branch or a hash; of the template's default branch where nothing is wanted."""
    places = [f"{REFS}/tags/{wanted}", f"{REFS}/heads/{wanted}", wanted] if wanted else [f"{REFS}/newest"]
    for place in places:
        commit = tree.git(
            "rev-parse", "--quiet", "--verify", "--end-of-options", f"{place}^{{commit}}", check=False
        ).strip()
        if commit and tree.git("for-each-ref", "--contains", commit, "--count=1", REFS):
            return commit
    tags = tree.git("for-each-ref", "--sort=-creatordate", "--count=5", "--format=%(refname:lstrip=3)", f"{REFS}/tags")
    known = ", ".join(tags.split()) or "none"
    raise Refused(f"the template has no tag, branch or commit {wanted}; its newest tags: {known}")


def origin(template: dict[str, str], target: str) -> str:
    """The template's commit that this fork has already."""
    for commit in (template["commit"], "HEAD"):
        if shared := tree.git("merge-base", commit, target, check=False).strip():
            return shared
    began = tree.git("rev-list", "--max-parents=0", "HEAD").split()
    known = {template["tree"], *map(contents, began)}
    history = tree.git("log", "--format=%H %T", f"--glob={REFS}/*")
    for commit, tree_id in map(str.split, history.splitlines()):
        if tree_id in known:
            return commit
    raise Refused(
        f"no commit of the template has the contents that this fork began with: put the one that it was made from into"
        f" {rename.RECORD}, commit = …"
    )


def contents(commit: str) -> str:
    return tree.git("rev-parse", f"{commit}^{{tree}}").strip()


def name_of(commit: str) -> str:
    """The template's tag for the commit, or its short hash."""
    tags = tree.git("for-each-ref", "--points-at", commit, "--format=%(refname:lstrip=3)", f"{REFS}/tags").split()
    return tags[-1] if tags else commit[:12]


def put_kit_back(base: str) -> list[str]:
    """The kit as the template had it; what was edited in it all the same is kept as a patch, and its files returned."""
    if not (edited := tree.git("diff", "--name-only", "--no-renames", base, "HEAD", "--", KIT).splitlines()):
        return []
    EDITS.parent.mkdir(exist_ok=True)
    EDITS.write_text(tree.git("diff", "--binary", base, "HEAD", "--", KIT))
    tree.git("rm", "--quiet", "-r", "--force", KIT)
    tree.git("checkout", base, "--", KIT)
    return edited


def bring_in(base: str, target: str, fork: dict) -> list[str]:
    """Applies what lies between the two to index and tree; returns the paths with conflicts."""
    head = rename.head_of(ROOT)
    found = merge.apply(mapped(base, fork, head), mapped(target, fork, head), f"the template's {name_of(target)}")
    for path in set(found) & MADE.keys():
        tree.git("checkout", f"--{MADE[path]}", "--", path)
        tree.git("add", "--", path)
    return [path for path in found if path not in MADE]


def mapped(commit: str, fork: dict, head: str) -> str:
    """The template's tree at the commit, with what this fork did to all of it; returns the tree's hash."""
    with checkout(commit) as root:
        rename.rename(root, fork["name"], fork["title"])
        rename.put_head(root, head)
        if not fork["sample"]:
            # By the commit's own program, which knows the sample of its time.
            remove = [sys.executable, "-B", "-c", "from slipway.commands import remove_sample; remove_sample.remove()"]
            subprocess.run(remove, cwd=root, check=True, env=os.environ | {"SLIPWAY_ROOT": str(root)})
        for name in OURS:
            (root / name).unlink(missing_ok=True)
        tree.git("add", "--all", root=root)
        return tree.git("write-tree", root=root).strip()


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A directory of its own with the commit's files."""
    with tempfile.TemporaryDirectory(prefix="template-") as directory:
        root = Path(directory, "tree")
        tree.git("-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach", str(root), commit)
        try:
            yield root
        finally:
            tree.git("worktree", "remove", "--force", str(root))


def settle() -> None:
    """What follows from the merged files: the lock, and the documented settings."""
    for words, what in ((("lock",), "the lock"), (("docs",), "the documented settings")):
        run = subprocess.run(
            ["make", "--silent", *words], cwd=ROOT, env=without_ours(), capture_output=True, text=True, check=False
        )
        if run.returncode:
            said = [line for line in run.stderr.strip().splitlines() if not line.startswith("make: ***")]
            print(f"Bring {what} up to date yourself, `make {words[0]}`: {(said or ['no error message'])[-1]}")
    tree.git("add", "--all")


def without_ours() -> dict[str, str]:
    """The environment without what means this program's own place."""
    return {name: value for name, value in os.environ.items() if name not in ("SLIPWAY_ROOT", "MAKEFLAGS", "MAKELEVEL")}


def report(base: str, target: str, edited: list[str]) -> None:
    """What was taken: the template's commits, and the files here that differ for it."""
    log = tree.git("log", "--oneline", "--no-decorate", f"{base}..{target}").splitlines()
    print(f"From {name_of(base)} to {name_of(target)} of the template, {len(log)} commits:\n")
    print("\n".join(f"  {line}" for line in log[:MOST]))
    if len(log) > MOST:
        print(f"  and {len(log) - MOST} more: git log {base[:12]}..{target[:12]}")
    print(f"\n{tree.changes()}\n", flush=True)
    if edited:
        print(f"The kit is the template's again, whole. You had edited {', '.join(edited)}: the edits are kept in")
        print(f"{EDITS.relative_to(ROOT)}, and docs/architecture.md says where each kind of change has its place.\n")


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["take-up"]:
            take_up(*sys.argv[2:])
        else:
            main(os.environ.get("TO", ""), os.environ.get("SOURCE", ""))
    except (Refused, merge.Failed) as error:
        sys.exit(f"make template-update: {error}")
