"""Which files belong to the tree, in a repository and without one."""

import subprocess

from slipway.commands.shared import git


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
