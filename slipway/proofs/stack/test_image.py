"""What can be checked about our image and its Dockerfile only with the source at hand."""

import json
import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chassis.settings import Settings
from slipway.proofs.harness import ROOT, copy_tree, unique

pytestmark = pytest.mark.containers

BASE = "python:3.14-slim-trixie"
MB = 1_000_000
LABELS = ("VERSION", "REVISION", "BUILT", "SOURCE", "LICENSES", "DESCRIPTION", "AUTHORS")
BUILD = ["docker", "build", "--build-arg", "SERVICE=web", "--file", "docker/service.Dockerfile"]


def run_build(directory: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([*BUILD, *arguments, "."], cwd=directory, capture_output=True, text=True, check=False)


def build(directory: Path, tag: str, *arguments: str) -> str:
    run = run_build(directory, *arguments, "--tag", tag)
    assert run.returncode == 0, run.stderr
    return tag


def failure(directory: Path, *arguments: str) -> str:
    """The output of a build that fails."""
    run = run_build(directory, *arguments)
    assert run.returncode != 0
    return run.stdout + run.stderr


def layers(image: str) -> list[str]:
    return inspect(image)["RootFS"]["Layers"]


def size(image: str) -> int:
    """Bytes, as `docker images` counts them."""
    return inspect(image)["Size"]


def compressed(image: str) -> int:
    """Approximate bytes of the image's layers as a registry would send them: gzip, level 6."""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as save:
        archive = subprocess.run(["gzip", "-6"], stdin=save.stdout, capture_output=True, check=True)
    return len(archive.stdout)


def inspect(image: str) -> dict:
    run = subprocess.run(["docker", "image", "inspect", image], check=True, capture_output=True)
    return json.loads(run.stdout)[0]


def in_image(image: str, *command: str) -> str:
    return subprocess.run(
        ["docker", "run", "--rm", "--network", "none", image, *command], check=True, capture_output=True, text=True
    ).stdout


def stands_on(image: str) -> str:
    """The versions that the image is based on, with which it may grow without a commit."""
    python = "import platform; print(platform.python_version(), 'on', platform.freedesktop_os_release()['PRETTY_NAME'])"
    return f"with Python {in_image(image, 'python', '-c', python).strip()}"


def test_the_dockerfile_passes_the_builders_own_check():
    run = run_build(ROOT, "--check")
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_image_adds_under_55_mb_to_its_base_and_20_mb_compressed(image, record_property):
    added, sent = size(image) - size(BASE), compressed(image) - compressed(BASE)
    record_property("figure", f"{added / MB:.1f} MB, {sent / MB:.1f} MB compressed")
    assert added < 55 * MB, stands_on(image)
    assert sent < 20 * MB, stands_on(image)


def test_the_minimal_variant_is_under_80_mb_and_32_mb_compressed(minimal, record_property):
    whole, sent = size(minimal), compressed(minimal)
    record_property("figure", f"{whole / MB:.1f} MB, {sent / MB:.1f} MB compressed")
    assert whole < 80 * MB, stands_on(minimal)
    assert sent < 32 * MB, stands_on(minimal)


def test_the_minimal_variant_has_no_shell_and_no_package_manager(minimal):
    held = in_image(minimal, "python", "-c", "import os; print(*(f for _, _, fs in os.walk('/') for f in fs))").split()
    assert not {"sh", "bash", "dash", "apt", "apt-get", "dpkg", "pip", "pip3", "busybox", "perl"} & set(held)


def test_scanners_find_debians_packages_in_the_minimal_variant(minimal):
    packages = in_image(minimal, "python", "-c", "import os; print(*os.listdir('/var/lib/dpkg/status.d'))").split()
    assert {"libc6", "libpq5", "libssl3t64", "tini"} <= set(packages)


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
    assert changed == [len(before) - 1]


def test_labels_change_no_layer(tmp_path):
    tree, tag = copy_tree(tmp_path), f"slipway-test/{unique('labels')}"
    said = [f"--build-arg={name}={secrets.token_hex(3)}" for name in LABELS]
    try:
        before = layers(build(tree, tag))
        assert layers(build(tree, tag, *said)) == before
        assert {each.split("=")[-1] for each in said} <= set(inspect(tag)["Config"]["Labels"].values())
    finally:
        subprocess.run(["docker", "image", "rm", "--force", tag], check=True, capture_output=True)


@pytest.mark.parametrize("variant", ["full", "minimal"])
@pytest.mark.parametrize("path", ["services/web/src/web/late.py", "slipway/chassis/src/chassis/server/gunicorn.py"])
def test_what_cannot_be_imported_fails_the_build(tmp_path, path, variant):
    tree = copy_tree(tmp_path)
    with (tree / path).open("a") as module:
        module.write("\nimport nowhere\n")
    assert "ModuleNotFoundError: No module named 'nowhere'" in failure(tree, "--build-arg", f"VARIANT={variant}")


def test_what_does_not_compile_fails_the_build(tmp_path):
    tree = copy_tree(tmp_path)
    (tree / "services/web/gunicorn.conf.py").write_text("from chassis import\n")
    assert "SyntaxError" in failure(tree)


@pytest.mark.parametrize("variant", ["full", "minimal"])
def test_layers_depend_on_the_contents_and_on_nothing_else(tmp_path, variant):
    """Two checkouts with different times and modes, built without the builder's cache, which goes by contents."""
    trees = [copy_tree(tmp_path / name) for name in ("first", "second")]
    earlier = time.time() - 1e8  # another time in each run: the builder takes a file of known size and time for known
    for path in trees[1].rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700 | 0o020)  # git's bits, and one that git does not record
        os.utime(path, (earlier, earlier), follow_symlinks=False)
    made = {"libs", "place", "source", "runtime"} | ({"selection", "minimal"} if variant == "minimal" else {"full"})
    options = ["--progress=plain", f"--build-arg=VARIANT={variant}", f"--no-cache-filter={','.join(made)}"]
    tags = [f"slipway-test/{unique('layers')}" for _ in trees]
    try:
        for tree, tag in zip(trees, tags, strict=True):
            run = run_build(tree, *options, "--tag", tag)
            assert run.returncode == 0, run.stderr
            kept = re.findall(r"^(#\d+) CACHED$", run.stderr, re.MULTILINE)
            steps = re.findall(r"^(#\d+) \[(\S+) +\d+/\d+\] (?!FROM )", run.stderr, re.MULTILINE)
            assert made <= {stage for _, stage in steps}
            # What runtime copies, it shares with any build of the same contents that is under way.
            assert not {stage for number, stage in steps if number in kept} & (made - {"runtime"})
        assert layers(tags[0]) == layers(tags[1])
    finally:
        subprocess.run(["docker", "image", "rm", "--force", *tags], check=True, capture_output=True)


def test_no_file_is_named_as_the_folder_beside_it():
    """Docker writes a layer in one of two orders, by path or by folder; they differ for `static.py` and `static/`."""
    files = [path for each in ("slipway/chassis/src", "libs", "services") for path in (ROOT / each).rglob("*.py")]
    assert files
    assert not [path for path in files if path.with_suffix("").is_dir()]


def test_a_file_that_changes_in_the_image_has_another_time_for_browsers_to_compare(tmp_path):
    """A server derives its ETag from time and size, and the edit has the same size."""
    style, times = tmp_path / "app/services/web/src/web/static/style.css", []
    style.parent.mkdir(parents=True)
    for text in ("red", "tan"):
        style.write_text(text)
        subprocess.run([sys.executable, ROOT / "slipway/image/source.py", tmp_path], check=True)
        times.append(style.stat().st_mtime)
    assert 0 <= times[0] != times[1] < time.time()


@pytest.mark.parametrize("variant", ["full", "minimal"])
def test_a_new_dependency_changes_the_dependencies_layer_and_no_other(tmp_path, variant):
    """The dependency is iniconfig: small, and in the lock already."""
    tree, tag = copy_tree(tmp_path), f"slipway-test/{unique('layers')}"
    project = tree / "services/web/pyproject.toml"
    try:
        before = layers(build(tree, tag, f"--build-arg=VARIANT={variant}"))
        project.write_text(project.read_text().replace('["chassis', '["iniconfig", "chassis', 1))
        environment = {**os.environ, "UV_PYTHON": sys.executable}
        subprocess.run([ROOT / uv(), "lock", "--quiet"], cwd=tree, env=environment, check=True)
        after = layers(build(tree, tag, f"--build-arg=VARIANT={variant}"))
    finally:
        subprocess.run(["docker", "image", "rm", "--force", tag], check=True, capture_output=True)
    assert sum(old != new for old, new in zip(before, after, strict=True)) == 1


def test_what_is_installed_is_what_the_lock_says(service, image):
    """Compares the bill of materials that uv writes from the lock with the image's environment."""
    export = subprocess.run(
        [uv(), "export", "--frozen", "--quiet", "--no-dev", "--package", service.name, "--extra", "source",
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


ZONES = """
import os, time, zoneinfo
from datetime import datetime
os.environ["TZ"] = "Europe/Berlin"
time.tzset()
print(len(zoneinfo.available_timezones()), time.tzname, datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("Asia/Kolkata")))
"""


def test_time_zones_are_known_and_tz_is_honoured(image, minimal):
    for each in (image, minimal):
        count, _, rest = in_image(each, "python", "-c", ZONES).partition(" ")
        assert int(count) > 400
        assert rest == "('CET', 'CEST') 2026-07-01 00:00:00+05:30\n"


def test_python_buffers_no_output_writes_no_bytecode_and_is_the_environments(image, minimal):
    show = "import os, sys; print(sys.stdout.write_through, sys.dont_write_bytecode, sys.prefix, os.environ['HOME'])"
    for each in (image, minimal):
        assert in_image(each, "python", "-c", show) == "True True /opt/venv /tmp\n"


def test_it_exposes_the_port_on_which_the_server_listens_by_default(image):
    assert inspect(image)["Config"]["ExposedPorts"] == {f"{Settings.port}/tcp": {}}


SCRIPT = "import sys\nprint(sys.argv[1:])\nsys.exit(3)\n"


def test_a_script_of_the_host_runs_in_any_directory_with_no_settings(image, minimal, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    for module in ("chassis", "json", "logging", "signal"):  # the entrypoint imports the image's
        (tmp_path / f"{module}.py").write_text("raise SystemExit('the wrong module')")
    tmp_path.chmod(0o755)
    docker = ["docker", "run", "--rm", "--network", "none", "--volume", f"{tmp_path}:/src", "--workdir", "/src"]
    for each in (image, minimal):
        command = [*docker, each, "python", "script.py", "--month", "5"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (run.stdout, run.stderr, run.returncode) == ("['--month', '5']\n", "", 3)


def test_the_chassis_test_fixtures_are_not_in_the_image(image):
    assert in_image(image, "find", "/app", "-name", "test*", "-o", "-name", "checklist*").strip() == ""


def test_nothing_of_the_development_server_is_in_the_image(image):
    """No file, no module, and no mention of its routes in the rest."""
    assert in_image(image, "find", "/app", "-path", "*chassis/dev*").strip() == ""
    find = "import importlib.util as u; print(u.find_spec('devserver'))"
    assert in_image(image, "python", "-c", find).strip() == "None"
    named = in_image(image, "sh", "-c", "grep --recursive --files-with-matches _dev/ /app || true")
    assert named.strip() == ""


def test_what_helps_developers_is_not_in_the_image(image):
    assert (
        in_image(image, "find", "/app", "-name", "seed*", "-o", "-name", "verbs*", "-o", "-name", "tools").strip() == ""
    )


def test_psycopg2_in_the_image_is_linked_to_debians_libpq(image):
    assert "(dt dec pq3 ext lo64)" in in_image(image, "python", "-c", "import psycopg2; print(psycopg2.__version__)")
    assert "libpq" not in in_image(image, "find", "/opt/venv", "-name", "libpq*")
