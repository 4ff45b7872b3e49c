"""What can be said of our image and its Dockerfile only with the source at hand."""

import json
import subprocess
from pathlib import Path

import pytest
from harness import ROOT, copy_tree, unique

pytestmark = pytest.mark.containers

BUILD = ["docker", "build", "--quiet", "--build-arg", "SERVICE=web", "--file", "docker/service.Dockerfile"]


def build(directory: Path, tag: str) -> str:
    subprocess.run([*BUILD, "--tag", tag, "."], cwd=directory, check=True, capture_output=True)
    return tag


def layers(image: str) -> list[str]:
    run = subprocess.run(["docker", "image", "inspect", image], check=True, capture_output=True)
    return json.loads(run.stdout)[0]["RootFS"]["Layers"]


def in_image(image: str, *command: str) -> str:
    return subprocess.run(
        ["docker", "run", "--rm", "--network", "none", image, *command], check=True, capture_output=True, text=True
    ).stdout


def test_the_dockerfile_passes_the_builders_own_check():
    run = subprocess.run(
        [*BUILD[:2], "--check", *BUILD[3:], "."], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_source_edit_changes_the_source_layer_and_no_other(tmp_path):
    tree, tag = copy_tree(tmp_path), f"slipway-test/{unique('layers')}"
    try:
        before = layers(build(tree, tag))
        source = tree / "services/web/src/web/home.py"
        source.write_text(source.read_text() + "\n# an edit\n")
        after = layers(build(tree, tag))
    finally:
        subprocess.run(["docker", "image", "rm", "--force", tag], check=True, capture_output=True)
    changed = [index for index, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    # The source, and the empty layer of the import check that runs after it.
    assert changed == [len(before) - 2, len(before) - 1] or changed == [len(before) - 2]


def test_what_is_installed_is_what_the_lock_says(image):
    """The bill of materials that uv writes from the lock, against the image's environment."""
    export = subprocess.run(
        [uv(), "export", "--frozen", "--quiet", "--no-dev", "--package", "web", "--extra", "source",
         "--no-emit-workspace", "--no-hashes", "--no-annotate", "--no-header"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    locked = {line.split(";")[0].strip() for line in export.splitlines() if applies(line)}
    listing = (
        "import importlib.metadata as m, sysconfig; path = [sysconfig.get_path('purelib')];"
        " print(*(f'{d.name}=={d.version}' for d in m.distributions(path=path)), sep='\\n')"
    )
    installed = {name.lower().replace("_", "-") for name in in_image(image, "python", "-c", listing).split()}
    assert installed == {name.lower().replace("_", "-") for name in locked}


def applies(line: str) -> bool:
    """Whether a locked requirement is for Linux and Python 3.14."""
    from packaging.markers import Marker, default_environment

    if not line.strip() or line.startswith(("#", "-")):
        return False
    _, _, marker = line.partition(";")
    linux = {**default_environment(), "python_version": "3.14", "python_full_version": "3.14.0"}
    return not marker or Marker(marker).evaluate(linux)


def uv() -> str:
    run = subprocess.run(["make", "--silent", "print-uv"], cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_the_chassis_test_fixtures_are_not_in_the_image(image):
    assert in_image(image, "find", "/app", "-name", "test*").strip() == ""


def test_psycopg2_in_the_image_is_linked_to_debians_libpq(image):
    assert "(dt dec pq3 ext lo64)" in in_image(image, "python", "-c", "import psycopg2; print(psycopg2.__version__)")
    assert "libpq" not in in_image(image, "find", "/opt/venv", "-name", "libpq*")
