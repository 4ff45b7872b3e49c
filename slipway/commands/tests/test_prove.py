"""`make prove` in a small separate tree, on a machine with a browser and no engine."""

import html
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.proofs.harness import ROOT, path_without, wait_until

PROMISES = """
## Image

| 1 | It keeps its word | `slipway/proofs/stack/test_good.py::test_it_keeps_its_word` |
| 2 | It breaks <nothing> | `slipway/proofs/stack/test_bad.py::test_it_breaks_nothing` |
| 3 | It runs in a container | `slipway/proofs/stack/test_bad.py::test_it_runs_in_a_container` |
| 4 | It is tidy | `make lint` |
| 5 | It runs on three nodes | `slipway/proofs/swarm/test_nodes.py::test_it_runs_on_three_nodes` |
"""
# Without the plugins that pytest would load if they are installed: each process would take two seconds to start.
PYPROJECT = """
[tool.pytest]
pythonpath = ["."]
addopts    = ["-p", "xdist.plugin"]
markers    = ["alone", "containers"]
"""
GOOD = """
import pytest

def test_it_keeps_its_word(record_property):
    record_property("figure", "7 of 7 words")

@pytest.mark.alone
def test_it_takes_its_time():
    pass
"""
BAD = r"""
import pytest

@pytest.mark.parametrize("case", ["it's \"$HOME\" `id` [a b];\n#ü", "plain"])
def test_it_breaks_nothing(case):
    assert case == "plain", f"{case!r} is broken\nand more"

@pytest.mark.containers
def test_it_runs_in_a_container():
    raise AssertionError
"""
NODES = """
def test_it_runs_on_three_nodes():
    pass
"""
SLOW = """
import threading

def test_one_ends():
    pass

def test_one_does_not():
    threading.Event().wait()
"""


class Tree:
    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory, self.environment = directory, environment

    def prove(self, command: str = "make prove", **environment: str) -> subprocess.Popen:
        """Runs it in a shell, as it is typed there, and in its own job."""
        return subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.directory,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def page(self) -> str:
        text = re.sub(
            r"<(style|title).*?</\1>|<[^>]+>", " ", (self.directory / ".cache/prove.html").read_text(), flags=re.S
        )
        return " ".join(html.unescape(text).split())


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    home = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "slipway/commands", home / "slipway/commands", ignore=shutil.ignore_patterns("tests"))
    for name in (
        "Makefile",
        "slipway/Makefile",
        "slipway/proofs/conftest.py",
        "slipway/proofs/harness.py",
        "slipway/proofs/needs.py",
        "slipway/proofs/plugin.py",
        "slipway/proofs/record.py",
    ):
        (home / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(ROOT / name, home / name)
    for name, text in {
        "docs/promises.md": PROMISES,
        "slipway/proofs/stack/test_bad.py": BAD,
        "slipway/proofs/stack/test_good.py": GOOD,
        "slipway/proofs/swarm/test_nodes.py": NODES,
        "pyproject.toml": PYPROJECT,
        "uv.lock": "",
        "chromium": "#!/bin/sh\necho A browser 1.2\n",
    }.items():
        (home / name).parent.mkdir(exist_ok=True, parents=True)
        (home / name).write_text(text)
    (home / "chromium").chmod(0o755)
    # The environment of this run, newer than the files for which make would install it again.
    (home / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        (home / ".venv" / path.name).symlink_to(path)
    (home / ".venv/installed").unlink(missing_ok=True)
    (home / ".venv/installed").touch()
    if (ROOT / ".cache/uv").exists():
        (home / ".cache").mkdir()
        (home / ".cache/uv").symlink_to(ROOT / ".cache/uv")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "MFLAGS", "PYTEST", "REQUIRE"))
    }
    path = path_without(home / "bin", "docker")
    set_here = {"PATH": path, "CHROMIUM": str(home / "chromium"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return Tree(home, **kept | set_here)


@pytest.fixture(scope="module")
def whole(tree):
    """The output of a full run, and its page."""
    with tree.prove() as run:
        said = run.communicate()[0]
    assert run.returncode != 0, said
    return said, tree.page


def test_it_says_first_what_it_needs_and_has_and_runs_what_must_be_alone_last(whole):
    said, _ = whole
    assert re.match(r"browser +A browser 1\.2\nengine +none: Docker is not installed", said)
    assert re.findall("^Tests .*", said, re.MULTILINE) == ["Tests in two processes: 4", "Tests one after the other: 1"]


def test_a_failure_is_its_promise_its_reason_and_a_command_that_runs_it_alone(whole, tree):
    said, _ = whole
    (failure,) = re.findall(r"^FAILED (.+)\n +(make prove .+)$", said, re.MULTILINE)
    assert failure[0].startswith("2 It breaks <nothing>: AssertionError: ")
    assert "is broken" in failure[0]
    with tree.prove(failure[1]) as run:
        said = run.communicate()[0]
    assert run.returncode != 0
    assert "Tests: 0 passed, 1 failed, 0 not proven, in" in said
    assert failure[1] in said


def test_the_page_says_of_each_promise_whether_it_was_kept(whole):
    said, page = whole
    assert "1 of 3 promises kept. Tests: 3 passed, 1 failed, 1 not proven (no engine), in" in said
    assert page.startswith(
        "make prove 1 of 3 promises kept ✓ 1 kept ✗ 1 not kept \N{EN DASH} 1 not proven Tests: 3 passed"
    )
    assert "✓ kept: It keeps its word 7 of 7 words" in page
    assert "✗ not kept: It breaks <nothing>" in page
    assert "\N{EN DASH} not proven: It runs in a container not proven: no engine" in page
    assert "✓ by make lint: It is tidy" in page
    assert "test_good.py::test_it_takes_its_time" in page  # a test that no promise names
    assert "Unfinished" not in page


def test_of_one_area_the_page_says_that_it_is_a_part(tree):
    with tree.prove("make prove p=good args='-k word'", REQUIRE="browser") as run:
        said = run.communicate()[0]
    assert run.returncode == 0, said
    assert "1 of 1 promises kept. Tests: 1 passed, 0 failed, 0 not proven, in" in said
    assert tree.page.startswith("make prove p=good args='-k word' 1 of 1 promises kept ✓ 1 kept A part of the whole")


def test_what_takes_several_machines_is_left_out_unless_asked_for(whole, tree):
    assert "not in this run: It runs on three nodes" in whole[1]
    for command in ("make prove p=all", "make prove p=swarm"):
        with tree.prove(command) as run:
            said = run.communicate()[0]
        assert "✓ kept: It runs on three nodes" in tree.page, said


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("make prove p=goods", "p=goods is no test and no area. The areas are bad, good, nodes, stack, swarm"),
        (
            "make prove REQUIRE=browser,engine",
            "REQUIRE=browser,engine, and there is no engine (Docker is not installed",
        ),
        ("make prove REQUIRE=docker", "REQUIRE takes engine, browser, builder, not docker"),
        ("make prove p=good args='-k nothing'", "no test fits"),
    ],
)
def test_what_cannot_be_proved_is_one_line_before_anything_runs(tree, command, said):
    with tree.prove(command) as run:
        lines = [line for line in run.communicate()[0].splitlines() if not re.match("(browser|builder|engine) +", line)]
    assert run.returncode != 0
    assert len(lines) == 2, lines  # the other line is make's own
    assert lines[0].startswith(f"make prove: {said}")


def test_an_interrupted_run_leaves_its_page(tree):
    (tree.directory / "slipway/proofs/stack/test_slow.py").write_text(SLOW)
    record = tree.directory / ".cache/prove.jsonl"
    record.unlink(missing_ok=True)  # another run's
    with tree.prove("make prove p=slow") as run:
        wait_until("the first test's end", lambda: record.exists() and '"teardown"' in record.read_text())
        os.killpg(run.pid, signal.SIGINT)
        said = run.communicate()[0]
    (tree.directory / "slipway/proofs/stack/test_slow.py").unlink()
    assert run.returncode != 0
    assert "Tests: 1 passed, 0 failed, 0 not proven, 1 not reached" in said
    assert "Unfinished: it still runs, or it was interrupted." in tree.page
