"""uv without pip: what is fetched from an index, and the message if that fails."""

import os
import platform
import subprocess
import sys

import pytest

from slipway.commands.get_uv import VERSION
from slipway.proofs import wheels

HERE = ".".join(f"{libc}_{platform.machine()}" for libc in ("manylinux_2_17", "musllinux_1_1", "macosx_11_0"))


def fetch(folder, index):
    """Runs it with the environment's Python, which has no pip."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    return subprocess.run(
        [sys.executable, "-m", "slipway.commands.get_uv", folder / "kept/bin/uv"],
        env=environment | {"PIP_INDEX_URL": index},
        capture_output=True,
        text=True,
        check=False,
    )


def wheel(folder, version=VERSION, tags=HERE, **changes):
    return wheels.wheel(folder, version, tags, f"#!/bin/sh\necho {version}\n".encode()) | changes


@pytest.mark.parametrize("html", [False, True], ids=["json", "html"])
def test_the_images_version_is_taken_in_its_wheel_for_this_system(tmp_path, html):
    offered = [
        wheel(tmp_path, tags="win_amd64"),
        wheel(tmp_path, tags="manylinux_2_17_otherchip"),
        wheel(tmp_path, version="999.0"),
        wheel(tmp_path),
        wheel(tmp_path, version=f"{VERSION}0"),
    ]
    with wheels.served(tmp_path, *offered, html=html) as index:
        run = fetch(tmp_path, index)
    assert run.returncode == 0, run.stderr
    assert subprocess.check_output([tmp_path / "kept/bin/uv"], text=True) == f"{VERSION}\n"


def test_a_file_that_is_not_the_listed_one_is_refused(tmp_path):
    with wheels.served(tmp_path, wheel(tmp_path, hashes={"sha256": "0" * 64})) as index:
        run = fetch(tmp_path, index)
    assert run.returncode == 1
    assert "is not the file that it lists" in run.stderr
    assert list((tmp_path / "kept/bin").iterdir()) == []


@pytest.mark.parametrize("what", ["nothing listens", "nothing fits"])
def test_an_index_that_has_none_is_one_line_without_its_login(tmp_path, what):
    with wheels.served(tmp_path, wheel(tmp_path, tags="win_amd64")) as index:
        host = "127.0.0.1:9/simple" if what == "nothing listens" else index.removeprefix("http://")
        run = fetch(tmp_path, f"http://person:secret@{host}")
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"uv is not here and can't be had from http://{host} (")
    assert line.endswith("check the network, or put uv on the PATH.")
    assert "secret" not in line
