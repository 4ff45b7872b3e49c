"""`make template-update`: what the template learnt comes in, what the fork did stays, and neither is lost."""

import shutil
import tomllib

import pytest

from template.forks import Fork, complaint

ERRORS = "libs/chassis/src/chassis/errors.py"
HEALTH = "libs/chassis/src/chassis/health.py"
METRICS = "libs/chassis/src/chassis/metrics.py"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The template: v1, as this tree is, and v2, which changes, adds, moves and removes files."""
    template = Fork(tmp_path_factory.mktemp("template"))
    if (template.directory / ".slipway.toml").exists():
        (template.directory / ".slipway.toml").unlink()
        template.commit("Be a template, although this tree is a fork")
    template.git("tag", "v1")
    template.replace(HEALTH, '"""', '"""Learnt in v2. ')
    template.replace(ERRORS, '"""', '"""Learnt in v2, too. ')
    (former,) = {line[6:] for line in template.read("compose.yaml").splitlines() if line.startswith("name: ")}
    template.write("compose/learnt.yaml", f"services: {{new: {{image: '${{IMAGE_PREFIX:-{former}/}}new:1'}}}}\n")
    template.git("mv", METRICS, METRICS.replace("metrics", "measures"))
    (template.directory / ".editorconfig").unlink()
    template.replace("services/web/src/web/notes/rules.py", '"""', '"""Learnt in v2. ')  # sample
    template.write("CHANGELOG.md", template.read("CHANGELOG.md") + "- Learnt in v2.\n")
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
    if (fork.directory / "tools/remove_sample.py").exists():
        remove = "import sys; sys.path.insert(0, 'tools'); import remove_sample; remove_sample.remove()"
        fork.run("python3", "-B", "-c", remove)
        fork.commit("Remove the sample")
    fork.write(ERRORS, fork.read(ERRORS) + "\n# our edit\n")
    fork.write("README.md", fork.read("README.md") + "\nOur own words.\n")
    fork.write("services/web/src/web/fish.py", "FISH = True\n")
    fork.commit("Edit it")
    return fork


def update(fork, *arguments, **options):
    return fork.make("template-update", *arguments, **options)


@pytest.mark.parametrize("kind", ["fork", "stranger"])
def test_what_both_did_is_there_and_it_says_what_it_took(kind, request):
    fork = request.getfixturevalue(kind)
    said = update(fork, "to=v2").stdout
    assert "From v1 to v2 of the template, 1 commits" in said
    assert "Learn something" in said
    assert f"M  {HEALTH}" in said
    assert "Learnt in v2." in fork.read(HEALTH)
    assert "Learnt in v2, too." in fork.read(ERRORS)
    assert "# our edit" in fork.read(ERRORS)
    assert "fishmonger/}new:1" in fork.read("compose/learnt.yaml")
    assert not (fork.directory / METRICS).exists()
    assert (fork.directory / METRICS.replace("metrics", "measures")).exists()
    assert not (fork.directory / ".editorconfig").exists()
    assert not (fork.directory / "services/web/src/web/notes").exists()  # sample
    assert fork.read("README.md").startswith("# The Fishmonger's\n")
    assert "Our own words." in fork.read("README.md")
    assert "Learnt in v2" not in fork.read("CHANGELOG.md")
    assert fork.read("services/web/src/web/fish.py") == "FISH = True\n"
    record = tomllib.loads(fork.read(".slipway.toml"))
    assert record["template"]["version"] == "v2"
    assert record["fork"] == {"name": "fishmonger", "title": "The Fishmonger's"}
    assert not [line for line in fork.changed().splitlines() if line[1] != " "]  # all of it is staged

    fork.commit("Update")
    assert "There is nothing new: this fork has what v2 of the template has." in update(fork, "to=v2").stdout
    assert "There is nothing new" in update(fork, "to=v1").stdout
    assert fork.changed() == ""
    assert "From v2 to" in update(fork).stdout  # the newest
    assert "Learnt in v3." in fork.read(HEALTH)
    assert fork.git("worktree", "list").count("\n") == 1


def test_what_both_changed_is_an_ordinary_conflict_that_can_be_taken_back(fork):
    fork.replace(HEALTH, '"""', '"""Known to us. ')
    ours = fork.commit("Change the same line")
    run = update(fork, "to=v2", check=False)
    assert run.returncode != 0
    assert f"  {HEALTH}\n" in run.stderr
    assert "git reset --hard" in run.stderr
    assert f"UU {HEALTH}" in fork.changed()
    text = fork.read(HEALTH)
    assert text.index("Known to us.") < text.index("=======") < text.index("Learnt in v2.")
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
