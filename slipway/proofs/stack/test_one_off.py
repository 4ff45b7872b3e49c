"""One-off work, the same in the containers of `make dev`, in a temporary one, and natively."""

import os
import re
import subprocess
import threading

import pytest

from slipway.proofs.harness import ROOT, Stack, copy_tree, free_port, unique

FILES = ["base.yaml", "dev.yaml", *sorted(path.name for path in ROOT.glob("compose/*.dev.yaml"))]
DEVELOPMENT = [word for name in FILES for word in ("--file", f"compose/{name}")]

SCRIPT = """
import os, sys
from sqlalchemy import text
from web.app import create_app
from chassis.web.database import session
with create_app().app_context():
    print(sys.argv[1:], session().scalar(text("SELECT current_user")), sys.stdin.read().strip())
open("written.txt", "w").close()
sys.exit(3)
"""
TAG = """

from sqlalchemy.orm import Mapped, mapped_column


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
"""


SEED = """

make_app = create_app


def create_app():
    app = make_app()

    @app.cli.command("seed")
    def seed():
        from chassis.web.database import session
        from web.models import Tag

        session().add(Tag(name="seeded"))
        session().commit()
        print("1 row added")

    return app
"""
STACK = pytest.param("stack", marks=pytest.mark.containers)
CONTAINER = pytest.param("container", marks=pytest.mark.containers)
# For tests in which the service takes the same steps wherever its command runs.
WORKED_IN = pytest.mark.parametrize("place", [STACK, "native"], indirect=True)


@pytest.fixture(scope="module", params=[STACK, CONTAINER, "native"])
def place(request, tmp_path_factory):
    """A fresh checkout in which `make dev` runs in containers, or nothing runs, with an engine and without."""
    settings = {"DEV_PORT": free_port(), "DEV_UID": os.getuid(), "DEV_GID": os.getgid()} | (
        {"DOCKER": "no"} if request.param == "native" else {}
    )
    stack = Stack(copy_tree(tmp_path_factory.mktemp("verbs")), unique("verbs"), **settings)
    try:
        if request.param == "stack":
            stack.compose(*DEVELOPMENT, "up", "--build", "--detach", "--wait")
        yield stack
    finally:
        stack.destroy()


def running(stack):
    return sorted(c["Config"]["Labels"]["com.docker.compose.service"] for c in stack.containers() if is_up(c))


def is_up(container):
    return container["State"]["Running"]


def fails(stack, *words, **options):
    """The lines that a verb prints before make's own."""
    run = stack.make(*words, check=False, **options)
    assert run.returncode != 0, run.stdout
    return [line for line in run.stderr.splitlines() if line and not line.startswith("make: ***")]


def test_a_script_of_the_host_gets_arguments_and_stdin_and_its_exit_code_is_told(place):
    before = running(place)
    (place.directory / "scripts").mkdir(exist_ok=True)
    (place.directory / "scripts/x.py").write_text(SCRIPT)
    run = place.make("run", "cmd=python scripts/x.py --flag 'two words'", check=False, input="from stdin\n")
    assert run.stdout == "['--flag', 'two words'] web from stdin\n"
    assert "Error 3" in run.stderr
    written = place.directory / "written.txt"
    assert written.stat().st_uid == place.directory.stat().st_uid
    assert running(place) == before


def test_the_shell_knows_the_app_a_session_and_the_models(place):
    (place.directory / "services/web/src/web/models.py").open("a").write(TAG)
    run = place.make(
        "shell", input="from sqlalchemy import text\nprint(app.name, session.scalar(text('SELECT 41 + 1')), Tag)\n"
    )
    assert "web.app 42 <class 'web.models.Tag'>" in run.stdout


def test_psql_reads_stdin_as_the_owner(place):
    assert "web_owner" in place.make("psql", input="SELECT current_user;\n").stdout


def test_routes_are_listed_by_path(place):
    lines = place.make("routes").stdout.splitlines()
    assert re.fullmatch(r"health\.live +GET +/health/live *", next(line for line in lines if "live" in line))
    paths = [found[0] for line in lines if (found := re.search(r"/\S*", line))]
    assert paths == sorted(paths)


@WORKED_IN
def test_a_migration_from_model_to_database_and_back(place):
    """Needs the model that the shell's test has added."""
    versions = place.directory / "services/web/migrations/versions"
    place.make("migrate")
    known = set(versions.iterdir())
    made = place.make("migration", "m=add tags")
    (new,) = set(versions.iterdir()) - known
    assert new.name.endswith("_add_tags.py")
    assert new.stat().st_uid == place.directory.stat().st_uid
    assert f"services/web/migrations/versions/{new.name}\n" in made.stdout
    assert new.read_text() in made.stdout
    assert "Target database is not up to date" in " ".join(fails(place, "migration", "m=add more"))
    assert new.stem in place.make("migrate").stdout
    (line,) = fails(place, "migration", "m=add more")
    assert "models and database agree" in line
    assert "tags" in place.make("psql", input=r"\dt").stdout
    place.make("migrate", "to=-1")
    assert "tags" not in place.make("psql", input=r"\dt").stdout
    place.make("migrate")


@WORKED_IN
def test_sample_data_is_the_apps_own_command(place):
    app = place.directory / "services/web/src/web/app.py"
    app.write_text(app.read_text() + SEED)
    assert "1 row added" in place.make("seed").stdout


@WORKED_IN
def test_the_database_is_made_anew_after_a_question_that_names_what_goes(place):
    before = running(place)
    lines = fails(place, "reset-db", input="")
    assert "no answer: yes=1 does not ask" in lines[-1]
    refused = place.make("reset-db", check=False, input="no\n")
    assert "tags 1 rows" in refused.stdout
    assert "not confirmed; nothing was changed" in refused.stderr
    assert "seeded" in place.make("psql", input="SELECT name FROM tags;\n").stdout
    place.make("reset-db", input="web\n")
    assert "0" in place.make("psql", input="SELECT count(*) FROM tags;\n").stdout.split()
    assert "1 row added" in place.make("seed").stdout  # the app's role may write again
    assert running(place) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "make run: say what to run"),
        (["run", "cmd=--threads 2"], "make run: say what to run"),
        (["run", "cmd=echo 'open"], "make run: cmd= can't be read"),
        (["migration"], "make migration: say what changes"),
        (["psql", "s=nowhere"], "make psql: there is no service nowhere: s= takes "),
        (["shell", "s=../web"], "make shell: there is no service ../web"),
    ],
)
def test_a_word_that_is_missing_or_wrong_is_one_line(tmp_path_factory, words, said):
    stack = Stack(copy_tree(tmp_path_factory.mktemp("words")), unique("words"), DOCKER="no")
    (line,) = fails(stack, *words)
    assert line.startswith(said)


@pytest.mark.parametrize(
    "settings",
    [pytest.param({}, marks=pytest.mark.containers, id="container"), pytest.param({"DOCKER": "no"}, id="native")],
)
def test_two_terminals_share_the_database_that_one_of_them_has_started(tmp_path, settings):
    """The first exits, the second keeps its session, and after that nothing runs any more."""
    stack = Stack(copy_tree(tmp_path), unique("two"), DEV_PORT=free_port(), **settings)
    try:
        first, second = terminal(stack), terminal(stack)
        first.stdin.close()
        if not settings:  # natively the first one's process holds the server until the second is done
            assert first.wait(60) == 0
        out, _ = second.communicate("SELECT 'still ' || 'here';\n", timeout=60)
        assert "still here" in out
        assert first.wait(60) == 0
        assert running(stack) == []
    finally:
        stack.destroy()


def terminal(stack):
    """`make psql`, once its session is open."""
    process = subprocess.Popen(
        ["make", "psql"],
        cwd=stack.directory,
        env=stack.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    process.stdin.write("SELECT 'ready';\n")
    process.stdin.flush()
    guard = threading.Timer(120, process.kill)
    guard.daemon = True
    guard.start()
    assert any("ready" in line for line in process.stdout)
    return process


@pytest.mark.parametrize("place", [CONTAINER], indirect=True)
def test_the_image_is_built_again_only_once_what_it_is_made_of_has_changed(place):
    place.make("routes")
    assert "[internal]" not in place.make("routes").stderr
    with (place.directory / ".dockerignore").open("a") as file:
        file.write("# a line more\n")
    assert "[internal]" in place.make("routes").stderr
    assert "[internal]" not in place.make("routes").stderr
