"""`make template-update`: the template's changes come in, the fork's stay, and neither are lost."""

import shutil
import tomllib

import pytest

from slipway.proofs.forks.fork import Fork, complaint
from slipway.proofs.harness import path_without

CHASSIS = "slipway/chassis/src/chassis"
ERRORS, HEALTH = f"{CHASSIS}/web/errors.py", f"{CHASSIS}/web/health.py"
CURVE, CURVES = "slipway/bench/curve.py", "slipway/bench/curves.py"
PAGES, MOVED = "docker/proxy/caddy/errors", "docker/proxy/caddy/pages"
SERVICES = {"billing": [], "feed": ["kind=asgi"], "tick": ["kind=worker"]}
# For each file that a fork may edit: the line that it edits, while the template edits the line below; and the edit.
BESIDE = {
    ".ci/run": ("make lint", " # {}"),
    "Makefile": ("# hello: ## Say hello", " ({})"),
    "README.md": ("Without Docker, both run natively", " {}"),
    "compose/base.yaml": ("services:", " # {}"),
    "compose/prod.yaml": ("services:", " # {}"),
    "compose/proxy.caddy.yaml": ("services:", " # {}"),
    "compose/proxy.nginx.yaml": ("services:", " # {}"),
    "compose/settings.toml": ("SITE_ADDRESS", " # {}"),
    "compose/web.yaml": ("x-web: &web", " # {}"),
    "docker/database.sql": ("-- A service's database: made", " {}"),
    "docker/proxy/caddy/Caddyfile": ("\thttp_port", " # {}"),
    f"{PAGES}/errors.caddy": ("map {status} {title} {", " # {}"),
    "docker/proxy/nginx/nginx.conf": ("worker_processes", " # {}"),
    "docker/proxy/pages/error.css": ("  --paper:", " /* {} */"),
    "docker/service.Dockerfile": ("# One Dockerfile for every Python service", " {}"),
    "docs/deploy.md": ("deploy 3f2a1c9 (now", " # {}"),
    "pyproject.toml": ("minversion = ", " # {}"),
    "services/web/src/web/app.py": ("from web import ", "  # {}"),
    "services/web/src/web/settings.py": ("class Settings(settings.Settings):", "  # {}"),
    "services/web/src/web/templates/home.html": ("{% block main %}", "{{# {} #}}"),
    "tests/allowed.toml": ("# What production's containers may do", " ({})"),
    "tests/test_system.py": ("import json", "  # {}"),
}
LIBRARY = """\
[project]
name            = "money"
version         = "0.1.0"
requires-python = ">=3.11"

[build-system]
requires      = ["uv_build>=0.9,<1"]
build-backend = "uv_build"
"""
OWN = {
    "deploy/hooks/after": "#!/bin/sh\necho deployed\n",
    "libs/money/pyproject.toml": LIBRARY,
    "libs/money/src/money/__init__.py": '"""Sums."""\n',
    "services/web/src/web/fish.py": "FISH = True\n",
    "templates/service/services/{{ name }}/NOTES.md.jinja": "{{ name }} is ours.\n",
    "tests/test_ours.py": "import money\n\n\ndef test_of_our_own():\n    assert money.__doc__\n",
}


def appended(fork, path, anchor, how, word, below=0):
    lines = fork.read(path).splitlines()
    (number,) = [number for number, line in enumerate(lines) if line.startswith(anchor)]
    lines[number + below] += how.format(word)
    fork.write(path, "\n".join(lines) + "\n")


def be_a_template(fork):
    """Even where this tree is a fork."""
    if (fork.directory / ".slipway.toml").exists():
        (fork.directory / ".slipway.toml").unlink()
        fork.commit("Be a template, although this tree is a fork")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The template: v1, as this tree is, and v2, which changes, adds, moves and removes files, and the lock."""
    template = Fork(tmp_path_factory.mktemp("template"))
    be_a_template(template)
    template.git("tag", "v1")
    template.replace(HEALTH, '"""', '"""Learnt in v2. ')
    template.replace(ERRORS, '"""', '"""Learnt in v2, too. ')
    for path, (anchor, how) in BESIDE.items():
        appended(template, path, anchor, how, "learnt", below=1)
    (former,) = {line[6:] for line in template.read("compose.yaml").splitlines() if line.startswith("name: ")}
    template.write("compose/learnt.yaml", f"services: {{new: {{image: '${{IMAGE_PREFIX:-{former}/}}new:1'}}}}\n")
    template.git("mv", CURVE, CURVES)
    template.git("mv", PAGES, MOVED)
    for path in ("docker/proxy/caddy/Caddyfile", "docs/architecture.md"):
        template.write(
            path, template.read(path).replace("caddy/errors", "caddy/pages").replace("import errors/", "import pages/")
        )
    (template.directory / ".editorconfig").unlink()
    template.replace("services/web/src/web/notes/rules.py", '"""', '"""Learnt in v2. ')
    template.write("CHANGELOG.md", template.read("CHANGELOG.md") + "- Learnt in v2.\n")
    template.replace("services/web/pyproject.toml", 'requires-python = ">=3.11"', 'requires-python = ">=3.11" # learnt')
    template.replace("pyproject.toml", '    "pre-commit>=4",\n', "")
    template.make("lock")
    template.commit("Learn something")
    template.git("tag", "v2")
    template.replace(HEALTH, "Learnt in v2.", "Learnt in v3.")
    template.commit("Learn more")
    return template


@pytest.fixture
def fork(template, tmp_path):
    """A clone of v1, renamed, without the sample, and with edits."""
    fork = Fork(tmp_path, template, DOCKER="no")
    fork.git("reset", "--quiet", "--hard", "v1")
    return made_own(fork)


@pytest.fixture
def stranger(template, tmp_path):
    """The same, with a history that begins at v1's contents."""
    fork = Fork(tmp_path, template, DOCKER="no")
    fork.git("reset", "--quiet", "--hard", "v1")
    shutil.rmtree(tmp_path / ".git")
    fork.git("init", "--quiet")
    fork.commit("Begin")
    fork.git("remote", "add", "template", str(template.directory))
    return made_own(fork)


def made_own(fork):
    fork.make("rename", "name=fishmonger", "title=The Fishmonger's")
    shutil.rmtree(fork.directory / "secrets")
    fork.commit("Rename it")
    remove = "from slipway.commands import remove_sample; remove_sample.remove()"
    fork.run("python3", "-B", "-c", remove)
    fork.commit("Remove the sample")
    for path, (anchor, how) in BESIDE.items():
        appended(fork, path, anchor, how, "ours")
    for path, text in OWN.items():
        fork.write(path, text)
    fork.commit("Edit it")
    return fork


def update(fork, *arguments, **options):
    return fork.make("template-update", *arguments, **options)


def test_a_fork_that_has_grown_keeps_all_of_its_own_gets_all_that_is_new_and_is_green(fork, tmp_path_factory):
    """Renamed, without the sample, with services, a library, a test, a dependency, and an edit in each place."""
    fork.replace("services/web/pyproject.toml", '"flask-wtf', '"iniconfig", "money", "flask-wtf')
    fork.replace(
        "services/web/pyproject.toml", "[tool.uv.sources]\n", "[tool.uv.sources]\nmoney   = { workspace = true }\n"
    )
    fork.replace(HEALTH, '"""', '"""Known to us. ')  # what no fork should
    fork.make("lock", "docs")
    fork.commit("Use a library and a dependency")
    for name, words in SERVICES.items():
        fork.make("service", f"name={name}", *words)
        fork.commit(f"Add {name}")
    said = update(fork, "to=v2").stdout

    assert f"You had edited {HEALTH}" in said
    assert "+" + '"""Known to us. ' in fork.read(".cache/kit-edits.patch")
    assert fork.git("diff", "--name-only", "refs/template/tags/v2", "--", "slipway") == ""
    for path in BESIDE:
        text = fork.read(path.replace(PAGES, MOVED))
        assert text.count("ours") - OWN.get(path, "").count("ours") >= 1, path
        assert "learnt" in text, path
    assert {path for path, text in OWN.items() if fork.read(path) != text} == set()
    assert 'requires-python = ">=3.11" # learnt' in fork.read("services/web/pyproject.toml")
    assert '"iniconfig", "money"' in fork.read("services/web/pyproject.toml")
    assert "billing is ours." in fork.read("services/billing/NOTES.md")
    assert "docker/proxy/caddy/services/billing.caddy" in fork.git("ls-files")
    lock = fork.read("uv.lock")
    assert 'name = "money"' in lock
    assert 'name = "billing"' in lock
    assert 'name = "pre-commit"' not in lock

    named = fork.run("git", "grep", "-liIP", r"(?<![./])\bslipway\b(?![./])", "--", ":!slipway", check=False).stdout
    assert set(named.split()) <= {".slipway.toml", "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"}
    assert not (fork.directory / "services/web/src/web/notes").exists()
    fork.commit("Update")
    fork.make("lint")
    bare = fork.environment | {"PATH": path_without(tmp_path_factory.mktemp("bin"), "docker"), "REQUIRE": ""}
    what = "services libs tests/test_ours.py slipway/commands/tests/test_architecture.py"
    tested = fork.make("test", f"args=-q {what}", env=bare)
    assert "failed" not in tested.stdout
    assert "There is nothing new: this fork has what v2 of the template has." in update(fork, "to=v2").stdout
    assert fork.changed() == ""


@pytest.mark.parametrize("kind", ["fork", "stranger"])
def test_what_both_did_is_there_and_it_says_what_it_took(kind, request):
    fork = request.getfixturevalue(kind)
    said = update(fork, "to=v2").stdout
    assert "From v1 to v2 of the template, 1 commits" in said
    assert "Learn something" in said
    assert f"M  {HEALTH}" in said
    assert "You had edited" not in said
    assert "Learnt in v2." in fork.read(HEALTH)
    assert "Learnt in v2, too." in fork.read(ERRORS)
    assert "fishmonger/}new:1" in fork.read("compose/learnt.yaml")
    assert not (fork.directory / CURVE).exists()
    assert (fork.directory / CURVES).exists()
    assert not (fork.directory / ".editorconfig").exists()
    assert not (fork.directory / "services/web/src/web/notes").exists()
    assert fork.read("README.md").startswith("# The Fishmonger's\n")
    assert "Learnt in v2" not in fork.read("CHANGELOG.md")
    record = tomllib.loads(fork.read(".slipway.toml"))
    assert record["template"]["version"] == "v2"
    assert record["fork"] == {"name": "fishmonger", "title": "The Fishmonger's", "sample": False}
    assert not [line for line in fork.changed().splitlines() if line[1] != " "]  # all of it is staged

    fork.commit("Update")
    assert "There is nothing new: this fork has what v2 of the template has." in update(fork, "to=v2").stdout
    assert "There is nothing new" in update(fork, "to=v1").stdout
    assert fork.changed() == ""
    assert "From v2 to" in update(fork).stdout  # the newest
    assert "Learnt in v3." in fork.read(HEALTH)
    assert fork.git("worktree", "list").count("\n") == 1


def test_what_both_changed_is_an_ordinary_conflict_that_can_be_taken_back(fork):
    path = "compose/base.yaml"
    appended(fork, path, *BESIDE[path], "ours as well", below=1)
    ours = fork.commit("Change the same line")
    run = update(fork, "to=v2", check=False)
    assert run.returncode != 0
    assert f"  {path}\n" in run.stderr
    assert "git reset --hard" in run.stderr
    assert f"UU {path}" in fork.changed()
    text = fork.read(path)
    assert text.index("ours as well") < text.index("=======") < text.index("learnt")
    assert "Learnt in v2, too." in fork.read(ERRORS)
    fork.git("reset", "--quiet", "--hard")
    assert fork.changed() == ""
    assert fork.git("rev-parse", "HEAD").strip() == ours
    assert tomllib.loads(fork.read(".slipway.toml"))["template"]["version"] != "v2"


def test_what_can_not_be_done_is_one_line_and_changes_nothing(stranger):
    fork = stranger
    assert "has no tag, branch or commit v9; its newest tags: " in complaint(update(fork, "to=v9", check=False))
    nowhere = complaint(update(fork, "source=/nowhere/at/all", check=False))
    assert nowhere.startswith("make template-update: /nowhere/at/all can't be fetched: ")
    assert "can't be fetched" in complaint(update(fork, "source=--upload-pack=touch pwned", check=False))
    fork.write("NOTICE", "not committed")
    assert "NOTICE is not committed" in complaint(update(fork, check=False))
    (fork.directory / "NOTICE").unlink()
    assert fork.changed() == ""
    (fork.directory / ".slipway.toml").unlink()
    fork.commit("Forget where it comes from")
    assert "there is no .slipway.toml" in complaint(update(fork, check=False))
    assert fork.changed() == ""


def test_contents_that_the_template_never_had_are_named_with_the_remedy(stranger):
    fork = stranger
    shutil.rmtree(fork.directory / ".git")
    fork.replace(".slipway.toml", "tree", "former")
    fork.write(".slipway.toml", fork.read(".slipway.toml").replace("former", 'tree    = "0"\nformer', 1))
    fork.git("init", "--quiet")
    fork.commit("Begin elsewhere")
    assert "put the one that it was made from into .slipway.toml" in complaint(update(fork, "to=v2", check=False))
    assert fork.changed() == ""
