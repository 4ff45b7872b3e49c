"""chassis_testing's gate, on tests made for it."""

import os
import subprocess
import sys

TESTS = """
import subprocess
import pytest

def test_that_asks():
    subprocess.run(["sh", "-c", "docker version"], check=False)

def test_that_does_not():
    pass

@pytest.mark.containers
def test_in_a_container():
    assert subprocess.check_output(["docker", "version"], text=True) == "the real one: version\\n"
"""


def test_a_test_that_is_not_marked_for_containers_fails_by_name_when_it_starts_docker(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin/docker"
    docker.write_text('#!/bin/sh\necho "the real one: $*"\n')
    docker.chmod(0o755)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "ignore", tmp_path],
        cwd=tmp_path, env=os.environ | {"PATH": f"{docker.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "3 passed, 1 error" in run.stdout, run.stdout + run.stderr
    assert "test_it.py::test_that_asks is not marked containers, and started docker version" in run.stdout
