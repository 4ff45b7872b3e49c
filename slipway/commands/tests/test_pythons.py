"""The same Python here as in the images where it can be had, else one line that says so."""

import os
import re
import subprocess

import pytest

from slipway.commands import ROOT, doctor
from slipway.commands.shared import git, pythons

# Stands in for uv: keeps its words, and finds the Python that FOUND names, if any.
UV = """#!/bin/sh
echo "$*" >> uv.log
case "$1 $2" in
    "python find") [ -n "$FOUND" ] && echo "$FOUND" ;;
    *) mkdir -p .venv ;;
esac
"""


@pytest.fixture
def tree(tmp_path):
    """A checkout with what make needs to install the environment, and a stand-in for uv."""
    for name in ("Makefile", "slipway", "docker"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("pyproject.toml", "uv.lock", ".python-version"):
        (tmp_path / name).touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/uv").write_text(UV)
    (tmp_path / "bin/uv").chmod(0o755)
    return tmp_path


def make(tree, *words, **environ):
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    given = {**outside, "PATH": f"{tree}/bin{os.pathsep}{outside['PATH']}", "SLIPWAY_ROOT": str(tree), **environ}
    return subprocess.run(["make", *words], cwd=tree, env=given, capture_output=True, text=True, check=True)


def test_python_version_and_every_image_name_one_version():
    assert (ROOT / ".python-version").read_text() == f"{pythons.image()}\n"
    files = [name for name in git.files() if name.startswith((".devcontainer/", "compose", "docker/"))]
    named = [re.findall(r"\bpython:(\d[\d.]*)", (ROOT / name).read_text()) for name in files]
    assert {version for each in named for version in each} == {pythons.image()}


@pytest.mark.parametrize(("found", "used"), [("/else/where/python3", "/else/where/python3"), ("", "/this/python3")])
def test_the_environment_is_made_with_the_images_version_where_uv_finds_it_without_a_download(tree, found, used):
    make(tree, ".venv/installed", "PYTHON=/this/python3", FOUND=found)
    search, sync = (tree / "uv.log").read_text().splitlines()
    assert search == f"python find --no-project --no-python-downloads {pythons.image()}"
    assert sync.endswith(f"--python {used}")


@pytest.mark.parametrize("line", ["version_info = 3.1.4", "version = 3.1.4"])  # as uv and as venv write it
def test_where_they_differ_each_run_says_so_in_one_line_and_make_doctor_what_to_do(tree, monkeypatch, line):
    (tree / ".venv/bin").mkdir(parents=True)
    (tree / ".venv/bin/python").symlink_to("/bin/true")
    (tree / ".venv/installed").touch()
    config = tree / ".venv/pyvenv.cfg"
    config.write_text(f"home = /usr/bin\n{line}\n")
    said = f"Python 3.1 here, {pythons.image()} in the image"
    for words in (["test"], ["dev", "DOCKER=no"]):
        assert make(tree, *words).stderr == f"{said}: `make doctor` says what to do.\n"
    monkeypatch.setattr(pythons, "ROOT", tree)
    ((state, advice),) = doctor.python_version()
    assert state == doctor.HINT
    assert advice.startswith(f"{said}: ")
    assert f"python install {pythons.image()}`" in advice
    config.write_text(f"version_info = {pythons.image()}.2\n")
    assert make(tree, "test").stderr == ""
    assert list(doctor.python_version()) == []


def test_before_anything_is_installed_there_is_nothing_to_compare(tree, monkeypatch):
    monkeypatch.setattr(pythons, "ROOT", tree)
    assert pythons.difference() == ""
