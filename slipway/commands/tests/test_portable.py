"""What make runs on the host needs nothing that macOS lacks, which has make 3.81, bash 3.2 and BSD's tools."""

import os
import re
import subprocess

import pytest

from slipway.commands import ROOT

MAKEFILES = "".join((ROOT / name).read_text() for name in ("Makefile", "slipway/Makefile"))
LACKING = {
    "make": r"^\.ONESHELL|^undefine |^private |^[\w-]+ *!= |&: |\$\((file|guile|intcmp|let) ",
    "bash": r"\b(mapfile|readarray|coproc|declare -[An]|local -n)\b|\|&|&>>|\$\{\w+(,|\^|@)",
    "flags": r"\b(sed -i(?! ')|readlink -|grep -\w*P|date -d|xargs -\w*r|stat -c|sort -V|head -n -|ln -\w*r)\b",
    "programs": r"\b(realpath|timeout|nproc|tac|setsid|flock|seq)\b",
}


@pytest.mark.parametrize("what", LACKING)
def test_the_makefiles_use_nothing_that_macos_lacks(what):
    assert re.findall(rf".*(?:{LACKING[what]}).*", MAKEFILES, re.MULTILINE) == []


AWKWARD = """two words, "one" 'quoted'; exit 3 #"""


@pytest.mark.parametrize(
    ("verb", "variable"),
    [
        ("restore", "file"), ("restore", "s"), ("backup", "s"), ("rotate-secret", "s"), ("dev", "s"), ("debug", "s"),
        ("run", "cmd"), ("run", "s"), ("migration", "m"), ("migration", "empty"), ("rename", "title"),
    ],
)  # fmt: skip
def test_what_is_typed_reaches_the_program_as_it_was_typed(tmp_path, verb, variable):
    """The program is a stand-in that prints its words."""
    (tmp_path / "slipway").symlink_to(ROOT / "slipway")
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\nprintf "<%s>\\n" "$@"\n')
    program.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-f", ROOT / "Makefile", verb, f"{variable}={AWKWARD}", f"PYTHON={program}"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert f"<{variable}={AWKWARD}>" in run.stdout


def test_what_prepares_a_bare_machine_finds_what_it_calls():
    """A machine that has an engine never gets there."""
    folder = ROOT / "slipway/machine"
    called = re.findall(r'"\$HERE/([^"$]+)"', (folder / "engine").read_text())
    assert called
    assert [name for name in called if not os.access(folder / name, os.X_OK)] == []
