"""`make rename` in a fresh clone: the fork has its name everywhere, once, and its tests still pass."""

import re
import secrets
import tomllib

import pytest

from slipway.proofs.forks.fork import Fork, complaint
from slipway.proofs.harness import ports

# Where the template may still be named: the kit, its package to ruff, and the origin.
ORIGIN = ("slipway/", "pyproject.toml", ".slipway", "CHANGELOG.md", "LICENSE", "README.md")
NAME = f"fish{secrets.token_hex(3)}"


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    """Not renamed, even where this tree is."""
    fork = Fork(tmp_path_factory.mktemp("rename"))
    if (record := fork.directory / ".slipway.toml").exists():
        record.unlink()
        fork.commit("Forget the name")
    fork.git("remote", "add", "origin", "https://me:token@git.example/team/template.git")
    yield fork
    fork.destroy()


@pytest.fixture(scope="module")
def renamed(fork):
    """The fork after `make rename`, with what it said and what it came from."""
    fork.template = fork.git("rev-parse", "HEAD", "HEAD^{tree}").split()
    words = ("rename", f"name={NAME}", "title=The Fishmonger's")
    fork.said = fork.make(*words, env=fork.environment | {"DOCKER": "no"}).stdout
    return fork


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name is not set: make rename name=myshop"),
        (["name=My Shop"], "'My Shop' is no name"),
        (["name=../shop"], "'../shop' is no name"),
        (["name=9lives"], "'9lives' is no name"),
        (["name=x"], "'x' is no name"),
        (["name=fish$$(id)"], "is no name"),
        (["name=fish'; id; '"], "is no name"),
        ([f"name={NAME}", 'title=The "Fish"'], "must do without quotes"),
    ],
)
def test_a_bad_name_is_refused_before_anything_is_written(fork, arguments, said):
    refused = complaint(fork.make("rename", *arguments, check=False))
    assert refused.startswith("make rename: ")
    assert said in refused
    assert fork.changed() == ""


def test_a_tree_with_changes_is_refused_and_left_alone(fork):
    fork.write("NOTICE", "not committed")
    refused = complaint(fork.make("rename", f"name={NAME}", check=False))
    (fork.directory / "NOTICE").unlink()
    assert refused == "make rename: NOTICE is not committed: commit or stash first, then run it again."
    assert fork.changed() == ""


def test_a_failed_run_leaves_the_tree_as_it_was(fork):
    (fork.directory / "README.md").rename(fork.directory / "READ.md")
    fork.commit("Have no README")
    assert fork.make("rename", f"name={NAME}", check=False).returncode != 0
    assert fork.changed() == ""
    fork.git("reset", "--quiet", "--hard", "HEAD~1")


def test_it_has_its_name_its_record_and_secrets_of_its_own_and_says_what_it_changed(renamed):
    assert (renamed.directory / "README.md").read_text().startswith("# The Fishmonger's\n")
    assert "made from Slipway" in (renamed.directory / "CHANGELOG.md").read_text()
    record = tomllib.loads((renamed.directory / ".slipway.toml").read_text())
    assert record["fork"] == {"name": NAME, "title": "The Fishmonger's", "sample": True}
    assert [record["template"]["commit"], record["template"]["tree"]] == renamed.template
    assert record["template"]["source"] == "https://git.example/team/template.git"  # and not the login
    for change in ("M  README.md", "M  compose.yaml", "A  .slipway.toml", "created  secrets/secret_key"):
        assert change in renamed.said
    assert "LICENSE" in renamed.said
    listed = {line.split()[-1] for line in renamed.changed().splitlines()}
    assert listed <= set(renamed.said.split())


def test_where_a_user_looks_the_template_is_named_as_the_origin_only(renamed):
    word = r"(?<![./])\bslipway\b(?![./])"
    named = renamed.run("git", "grep", "--untracked", "-liIP", word, check=False).stdout.split()
    assert [name for name in named if not name.startswith(ORIGIN)] == []


@pytest.mark.containers
def test_what_compose_would_start_bears_the_name(renamed):
    plain = {name: renamed.environment[name] for name in ("PATH", "HOME")}
    configured = renamed.compose("config", "--format", "json", env=plain).stdout
    assert "slipway" not in configured.replace("/slipway/", "/")  # the kit's folder
    assert f'"image": "{NAME}/' in configured
    development = ("--file", "compose/base.yaml", "--file", "compose/dev.yaml", "config")
    assert f"name: {NAME}-dev\n" in renamed.compose(*development, env=plain).stdout


def test_it_is_as_green_as_before(renamed):
    renamed.make("lint")
    tested = renamed.make("test", "args=-q services slipway/commands")
    assert re.search(r"\d+ passed", tested.stdout)
    assert "failed" not in tested.stdout


def test_a_second_run_is_refused(renamed):
    renamed.commit("Make it ours")
    refused = complaint(renamed.make("rename", "name=another", check=False))
    assert refused == f"make rename: this fork is called {NAME} already (.slipway.toml)."
    assert renamed.changed() == ""


@pytest.mark.containers
def test_what_starts_bears_the_name(renamed):
    given = ("COMPOSE_PROJECT_NAME", "IMAGE_PREFIX")
    plain = {name: value for name, value in renamed.environment.items() if name not in given}
    plain |= {name: str(value) for name, value in ports().items()}
    try:
        renamed.compose("create", "--build", env=plain)
        named = renamed.compose("ps", "--all", "--format", "{{.Name}} {{.Image}}", env=plain).stdout.splitlines()
        assert f"{NAME}-web-a-1 {NAME}/web:local" in named
    finally:
        renamed.compose("down", "--volumes", env=plain)
        made = renamed.run("docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", f"{NAME}/*").stdout
        renamed.run("docker", "image", "rm", "--force", *made.split())
