"""The README's recipe for removing the sample, followed to the letter."""

import re
import subprocess

from harness import ROOT, Stack, copy_tree, unique


def recipe() -> str:
    """The commands that stand below "Remove the sample."."""
    section = (ROOT / "README.md").read_text().split("**Remove the sample.**")[1]
    block = re.search(r"```console\n(.*?)```", section, re.DOTALL)[1]
    return "\n".join(line.removeprefix("$ ") for line in block.splitlines())


def test_the_recipe_leaves_a_service_whose_tests_pass_and_which_knows_no_notes(tmp_path):
    stack = Stack(copy_tree(tmp_path), unique("sample"))
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    stack.run("bash", "-euo", "pipefail", "-c", recipe())
    tested = stack.make("test", "s=web", "args=-q")
    assert re.search(r"\d+ passed", tested.stdout)
    assert "NOTES_PER_PAGE" not in (tmp_path / ".env.example").read_text()
    left = stack.run("grep", "-rlE", r"web\.notes|NotesPerPage|notes_per_page", "services/web/src", check=False).stdout
    assert left == ""
