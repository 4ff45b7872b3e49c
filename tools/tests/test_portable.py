"""What make runs on the host needs nothing that macOS lacks: it has make 3.81, bash 3.2 and BSD's tools."""

import re
from pathlib import Path

import pytest

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text()
LACKING = {
    "make": r"^\.ONESHELL|^undefine |^private |^[\w-]+ *!= |&: |\$\((file|guile|intcmp|let) ",
    "bash": r"\b(mapfile|readarray|coproc|declare -[An]|local -n)\b|\|&|&>>|\$\{\w+(,|\^|@)",
    "flags": r"\b(sed -i(?! ')|readlink -|grep -\w*P|date -d|xargs -\w*r|stat -c|sort -V|head -n -|ln -\w*r)\b",
    "programs": r"\b(realpath|timeout|nproc|tac|setsid|flock|seq)\b",
}


@pytest.mark.parametrize("what", LACKING)
def test_the_makefile_uses_nothing_that_macos_lacks(what):
    assert re.findall(rf".*(?:{LACKING[what]}).*", MAKEFILE, re.MULTILINE) == []
