"""Keeps docker from tests that are not marked `containers`, on any machine: one that starts it fails by name."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# First on the PATH, where the programs that a test starts find it too: runs the machine's docker, unless that is
# forbidden. What the harness removes after another test does not count for this one.
GATE = """\
#!/bin/sh
if [ -e "$0.forbidden" ] && [ -z "$TEARING_DOWN" ]; then
    echo "docker $*" >> "$0.started"
    echo "docker was started by a test that is not marked containers" >&2
    exit 1
fi
exec "{docker}" "$@"
"""
DOCKER = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    folder = Path(tempfile.mkdtemp(prefix="docker-of-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    gate = config.stash[DOCKER] = folder / "docker"
    gate.write_text(GATE.format(docker=shutil.which("docker") or "/no-docker-here"))
    gate.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if not item.get_closest_marker("containers"):
        item.config.stash[DOCKER].with_suffix(".forbidden").touch()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Allows docker: containers that a module's tests share go after the last of them, which need not be marked."""
    gate = item.config.stash[DOCKER]
    gate.with_suffix(".forbidden").unlink(missing_ok=True)
    yield
    if (started := gate.with_suffix(".started")).exists():
        commands = started.read_text().strip().replace("\n", ", ")
        started.unlink()
        pytest.fail(f"{item.nodeid} is not marked containers, and started {commands}", pytrace=False)
