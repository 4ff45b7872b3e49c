"""An app of another repository, on the base image: its Dockerfile and the commands are those of docs/services.md."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.proofs.contract import report
from slipway.proofs.contract.subject import Subject, Wanted
from slipway.proofs.harness import ROOT, SOURCE, unique
from slipway.proofs.stack.test_image import in_image, layers, uv

pytestmark = [pytest.mark.containers, pytest.mark.alone]

SECTION = (ROOT / "docs/services.md").read_text().partition("## Apps of other repositories")[2].partition("\n## ")[0]
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL))
SHOP = {
    "shop/__init__.py": """
from flask import Flask, render_template
from humanize import intcomma

def create_app():
    app = Flask(__name__)
    app.add_url_rule("/", "home", lambda: render_template("home.html", price=intcomma(12345)))
    return app
""",
    "shop/templates/home.html": "<p>{{ price }}</p>",
    "wsgi.py": "from shop import create_app\n\napp = create_app()\n",
    "requirements.txt": "flask\nhumanize\npsycopg2-binary\n",
    ".dockerignore": "*\n!shop\n!wsgi.py\n!requirements.txt\n!pyproject.toml\n!uv.lock\n",
}
PROJECT = '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["flask", "humanize"]\n'
LABELS = {"version": "1.2.3", "revision": "0123456789abcdef", "source": SOURCE, "base.name": "slipway/base:1.0"}
MOUNT = "--mount=source={0},target={0}"


@pytest.fixture(scope="module")
def registry(checkout: Path) -> Iterator[str]:
    """Where the base images are, built by the command in the docs."""
    name = f"slipway-test/{unique('base')}"
    command = BLOCKS["console"].removeprefix("$ ").replace("registry.example", name)
    try:
        subprocess.run(["bash", "-euc", command], cwd=checkout, capture_output=True, check=True)
        yield name
    finally:
        which = [f"--filter=reference={name}/{each}" for each in ("*", "*/*")]
        listed = ["docker", "image", "ls", "--format={{.Repository}}:{{.Tag}}", *which]
        made = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
        subprocess.run(["docker", "image", "rm", "--force", *made], capture_output=True, check=bool(made))


@pytest.fixture(scope="module")
def shop(registry: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The other repository."""
    folder = tmp_path_factory.mktemp("shop")
    for name, text in {"Dockerfile": BLOCKS["dockerfile"].replace("registry.example", registry), **SHOP}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def app(registry: str, shop: Path) -> str:
    return build(shop, f"{registry}/shop:1")


def build(folder: Path, tag: str) -> str:
    run = try_to_build(folder, "--tag", tag)
    assert run.returncode == 0, run.stderr
    return tag


def try_to_build(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    labels = [f"--label=org.opencontainers.image.{name}={value}" for name, value in LABELS.items()]
    return subprocess.run(
        ["docker", "build", *labels, *arguments, "."], cwd=folder, capture_output=True, text=True, check=False
    )


def test_its_dockerfile_has_five_lines():
    assert len(BLOCKS["dockerfile"].split("\n\n")) == 2
    assert len(BLOCKS["dockerfile"].replace("\n\n", "\n").splitlines()) == 5


def test_it_keeps_the_contract(app, capsys, record_property):
    with Subject(Wanted(app, health="/health/ready", env={"DRAIN_DELAY": "1"})) as subject:
        assert "12,345" in subject.app.get("/").text
        verdict = report.report(subject)
    said = capsys.readouterr().out
    record_property("figure", said.splitlines()[-1])
    assert verdict == report.KEPT, said


def test_a_source_edit_changes_the_apps_layer_and_no_other(registry, shop, app):
    before = layers(app)
    (shop / "shop/templates/home.html").write_text("<p>Now at {{ price }}</p>")
    after = layers(build(shop, f"{registry}/shop:2"))
    assert [old == new for old, new in zip(before, after, strict=True)] == [True] * (len(before) - 1) + [False]


def test_it_waits_for_postgres_only_if_it_is_given_one(app):
    assert "GET" in in_image(app, "flask", "routes")
    address = "DATABASE_URL=postgresql://shop:long-enough-words@127.0.0.1:1/shop"
    command = ["docker", "run", "--rm", "--env", address, "--env", "DATABASE_WAIT=0", app, "flask", "routes"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 69
    assert "Postgres at 127.0.0.1:1 did not answer within 0 s" in run.stdout


def test_what_it_requires_may_be_in_uv_lock(registry, shop, tmp_path):
    with_lock(shop, tmp_path, PROJECT)
    tag = build(tmp_path, f"{registry}/shop:locked")
    assert "humanize" in in_image(tag, "python", "-c", "import shop; print(shop.intcomma.__module__)")


def test_requirements_that_contradict_the_bases_fail_the_build_and_say_how(shop, tmp_path):
    with_lock(shop, tmp_path, PROJECT.replace('"flask"', '"flask<3"'))
    said = " ".join(re.sub(r"^#\d+ [\d.]+", "", try_to_build(tmp_path).stderr, flags=re.MULTILINE).split())
    assert "flask==2.3.3 and flask>=3.1, we can conclude that your requirements are unsatisfiable" in said


def with_lock(shop: Path, folder: Path, project: str) -> None:
    """A copy of the repository that has a pyproject.toml and a uv.lock in place of requirements.txt."""
    shutil.copytree(shop, folder, dirs_exist_ok=True)
    (folder / "requirements.txt").unlink()
    (folder / "pyproject.toml").write_text(project)
    dockerfile = folder / "Dockerfile"
    both = f"{MOUNT.format('pyproject.toml')} {MOUNT.format('uv.lock')}"
    dockerfile.write_text(dockerfile.read_text().replace(MOUNT.format("requirements.txt"), both))
    environment = {**os.environ, "UV_PYTHON": sys.executable}
    subprocess.run([ROOT / uv(), "lock", "--quiet"], cwd=folder, env=environment, check=True)
