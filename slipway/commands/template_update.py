"""`make template-update`: brings in what the template learnt since this fork was made from it, or updated last.

A three-way merge of contents, with no history in common needed: between the template as it was and as it is
there is a difference; it is applied here, and what both sides changed is an ordinary conflict. Before that both of the
template's sides get what the fork did to all of it: its name, and no sample where it was removed.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rename
import tree

REFS = "refs/template"  # the template's branches and tags, apart from the fork's own
MOST = 20  # commits that are listed
SYNTHETIC = {f"GIT_{role}_{part}": "template" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")}
OURS = ("CHANGELOG.md", rename.RECORD)  # files that begin anew in a fork

UNDO = "To have it all as it was: git reset --hard"
DONE = f"Look at it with `git diff --cached`, run `make docs` and `make check`, and commit. {UNDO}"
CONFLICTS = f"""Both sides changed these: mend each and `git add` it, run `make docs` and `make check`, and commit.
{{}}
{UNDO}"""
LOCK = "uv.lock (made anew by: git checkout --theirs uv.lock && $(make print-uv) lock)"


class Refused(Exception):
    """Nothing was changed; one line that says why and what to do."""


def main(wanted: str, source: str) -> None:
    tree.refuse_unless_clean("template-update")
    try:
        record = read_record()
        record["template"]["source"] = source = source or record["template"]["source"]
        fetch(source)
        target = find(wanted)
        base = origin(record["template"], target)
    except Refused as error:
        sys.exit(f"make template-update: {error}")
    if not tree.git("diff", "--name-only", base, target):
        print(f"There is nothing new: this fork has what {name_of(target)} of the template has.")
        return
    with tree.rewriting():
        conflicts = merge(base, target, record["fork"])
        record["template"] |= {"version": name_of(target), "commit": target, "tree": contents(target)}
        rename.write_record(record["template"], record["fork"])
        tree.git("add", rename.RECORD)
    report(base, target)
    if conflicts:
        listed = (LOCK if path == "uv.lock" else path for path in conflicts)
        sys.exit(CONFLICTS.format("\n".join(f"  {path}" for path in listed)))
    print(DONE)


def read_record() -> dict:
    if not (tree.ROOT / rename.RECORD).exists():
        raise Refused(f"there is no {rename.RECORD}, which says what this fork is made from: `make rename` writes it")
    return rename.recorded()


def fetch(source: str) -> None:
    """The template's branches and tags, and its history."""
    if not source:
        raise Refused(f"where is the template? source=https://… says it, or `source` in {rename.RECORD}")
    specs = [f"+refs/heads/*:{REFS}/heads/*", f"+refs/tags/*:{REFS}/tags/*", f"+HEAD:{REFS}/newest"]
    run = subprocess.run(
        ["git", "fetch", "--quiet", "--no-tags", "--prune", "--", source, *specs],
        cwd=tree.ROOT,
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


def merge(base: str, target: str, fork: dict[str, str]) -> list[str]:
    """Applies what lies between the two to index and tree; returns the paths with conflicts."""
    head = rename.head_of(tree.ROOT)
    before = commit(mapped(base, fork, head), f"The template, {name_of(base)}")
    after = commit(mapped(target, fork, head), f"the template's {name_of(target)}", "-p", before)
    # A cherry-pick is the three-way merge whose base is the picked commit's parent.
    run = subprocess.run(
        ["git", "cherry-pick", "--no-commit", "--allow-empty", after],
        cwd=tree.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    conflicts = tree.git("diff", "--name-only", "--diff-filter=U").split("\n")[:-1]
    if run.returncode and not conflicts:
        raise SystemExit(f"make template-update: {run.stderr.strip().splitlines()[0]}; nothing was changed")
    return conflicts


def commit(tree_id: str, message: str, *options: str) -> str:
    run = subprocess.run(
        ["git", "commit-tree", tree_id, "-m", message, *options],
        cwd=tree.ROOT, capture_output=True, text=True, check=True, env=os.environ | SYNTHETIC,
    )  # fmt: skip
    return run.stdout.strip()


def mapped(commit: str, fork: dict[str, str], head: str) -> str:
    """The template's tree at the commit, with what this fork did to all of it; returns the tree's hash."""
    with checkout(commit) as root:
        rename.rename(root, fork["name"], fork["title"])
        rename.put_head(root, head)
        remover = root / "tools/remove_sample.py"
        if remover.exists() and not (tree.ROOT / "tools/remove_sample.py").exists():
            # The template's own, which knows the sample of its time.
            remove = [sys.executable, "-c", "import remove_sample; remove_sample.remove()"]
            path = {"PYTHONPATH": str(remover.parent), "PYTHONDONTWRITEBYTECODE": "1"}
            subprocess.run(remove, cwd=root, check=True, env=os.environ | path)
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


def report(base: str, target: str) -> None:
    """What was taken: the template's commits, and the files here that differ for it."""
    log = tree.git("log", "--oneline", "--no-decorate", f"{base}..{target}").splitlines()
    print(f"From {name_of(base)} to {name_of(target)} of the template, {len(log)} commits:\n")
    print("\n".join(f"  {line}" for line in log[:MOST]))
    if len(log) > MOST:
        print(f"  and {len(log) - MOST} more: git log {base[:12]}..{target[:12]}")
    print(f"\n{tree.changes()}\n", flush=True)


if __name__ == "__main__":
    main(os.environ.get("TO", ""), os.environ.get("SOURCE", ""))
