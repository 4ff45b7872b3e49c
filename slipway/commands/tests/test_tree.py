"""Which files belong to the tree, in a repository and without one."""

import subprocess
from functools import partial

from slipway.commands.shared import git
from slipway.proofs import harness


def test_a_source_archive_has_the_same_files_as_a_repository(tmp_path):
    for name in ("kept.py", "größe/kept too.py", "secrets/key", ".cache/made.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / ".gitignore").write_text("/secrets/\n/.cache/\n")
    mine = [".gitignore", "größe/kept too.py", "kept.py"]
    assert sorted(git.files(tmp_path)) == mine
    assert not (tmp_path / ".git").exists()
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    assert sorted(git.files(tmp_path)) == mine


def test_a_copy_of_the_tree_has_the_uis_that_npm_built_and_git_ignores(tmp_path, monkeypatch):
    tree, ignored = tmp_path / "tree", "services/shop/ui/dist/index.html"
    for name, text in {
        ".gitignore": "dist\nnode_modules\n",
        "kept.py": "",
        ignored: "built",
        "node_modules/a": "",
    }.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    monkeypatch.setattr(harness, "ROOT", tree)
    monkeypatch.setattr(git, "files", partial(git.files, tree))
    copy = harness.copy_tree(tmp_path / "copy")
    assert {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} == {
        ".gitignore",
        "kept.py",
        ignored,
    }
