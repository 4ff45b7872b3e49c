"""A deploy drops nothing, and a bad release changes nothing."""

import fcntl
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import pytest

from slipway.proofs.faults.injection import faulty_production
from slipway.proofs.harness import copy_tree, wait_until, with_probe
from slipway.proofs.stack.loadtest import LoadTest

pytestmark = pytest.mark.containers
alone = pytest.mark.alone

NEVER_READY = (
    "RUN echo 'Revisions.behind = lambda self, current: True' >> /app/slipway/chassis/src/chassis/db/revisions.py"
)
CRASHES = "RUN echo 'raise RuntimeError(\"this release is broken\")' >> /app/services/web/gunicorn.conf.py"
BAD_MIGRATION = """
RUN printf 'from alembic import op\\nrevision, down_revision = "bad", "{head}"\\n\\
def upgrade():\\n    op.execute("SELECT 1 / 0")\\n' > /app/services/web/migrations/versions/bad.py
"""

DRAINING, AT_ONCE = {"TEST_DRAIN_DELAY": "4"}, {"TEST_DRAIN_DELAY": "0"}  # seconds
BRIEF = {"TEST_DRAIN_DELAY": "3"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Production with a slow route, deployed once; releases are images made from its own."""
    tree = with_probe(copy_tree(tmp_path_factory.mktemp("deploy")))
    with faulty_production(tree, "slipway/proofs/stack/deploys.yaml") as stack:
        yield stack


@pytest.fixture
def certificate(stack):
    return stack.authority()


def url(stack):
    return f"https://localhost:{stack.environment['HTTPS_PORT']}"


def release(stack, name, *changes):
    """An image of the service that differs by its version and by the Dockerfile's lines given."""
    lines = [f"FROM {stack.image()}", "USER 0", *changes, "USER 10001:10001", f"ENV VERSION={name}"]
    stack.run("docker", "build", "--quiet", "--tag", stack.image(name), "-", input="\n".join(lines))
    return name


def deploy(stack, tag, check=True, **settings):
    """Deploys, by default with replicas that stop at once in their turn: without load there is nothing to drain."""
    return stack.make("deploy", f"TAG={tag}", check=check, env=stack.environment | AT_ONCE | settings)


def warnings(stack):
    """What the remaining replicas have logged about failures."""
    lines = stack.compose("logs", "--no-log-prefix", "web-a", "web-b").stdout.splitlines()
    return [line for line in lines if '"level":"INFO"' not in line]


def versions(stack):
    """The versions that the replicas report."""
    ask = "import urllib.request as u, json; print(json.load(u.urlopen('http://127.0.0.1:8000/version'))['version'])"
    return [stack.compose("exec", "-T", name, "python", "-c", ask).stdout.strip() for name in ("web-a", "web-b")]


@alone
def test_three_deploys_under_load_fail_no_request(stack, certificate, record_property):
    with LoadTest(url(stack), certificate) as load:
        wait_until("load", lambda: len(load.answers) > 100)
        for name in ("one", "two", "three"):
            out = deploy(stack, release(stack, name), **DRAINING).stdout
            assert versions(stack) == [name, name]
    print(f"{load}\n{out}")
    record_property("figure", str(load))
    record_property("deploy", re.search(r"after ([\d.]+) s", out)[1])
    assert load.failures == []
    assert len(load.answers) > 500


@alone
def test_a_careless_compose_up_holds_requests_and_loses_none(stack, certificate, record_property):
    deploy(stack, release(stack, "careful"), **DRAINING)
    careless = {**stack.environment, "TAG": release(stack, "careless")}
    with LoadTest(url(stack), certificate) as load:
        wait_until("load", lambda: len(load.answers) > 50)
        stack.compose("up", "--detach", "--no-build", env=careless)
        wait_until("the new release, both of it", lambda: versions(stack) == ["careless", "careless"], 60)
    stack.compose("up", "--detach", "--wait", "--no-build")
    record_property("figure", str(load))
    assert load.failures == []


def test_rollback_restores_the_former_image_and_can_be_taken_back(stack):
    deploy(stack, release(stack, "old"))
    deploy(stack, release(stack, "new"))
    assert versions(stack) == ["new", "new"]
    stack.make("rollback", env=stack.environment | AT_ONCE)
    assert versions(stack) == ["old", "old"]
    stack.make("rollback", env=stack.environment | AT_ONCE)
    assert versions(stack) == ["new", "new"]


@alone
@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("never-ready", NEVER_READY, "did not get ready within 20 s"),
        ("crashes", CRASHES, "did not get ready within 20 s"),
    ],
)
def test_a_release_that_does_not_start_changes_nothing_and_fails_no_request(
    stack, certificate, record_property, name, change, said
):
    deploy(stack, good := release(stack, "good"), **DRAINING)
    env = (stack.directory / ".env").read_text()
    bad = release(stack, name, change)
    with LoadTest(url(stack), certificate) as load:
        wait_until("load", lambda: len(load.answers) > 50)
        run = deploy(stack, bad, check=False, DEPLOY_TIMEOUT="20", **DRAINING)
    record_property("figure", f"{name}: {load}")
    assert run.returncode != 0, run.stdout
    complaint = [line for line in run.stderr.splitlines() if line.startswith("make deploy:")]
    assert len(complaint) == 1, run.stderr
    assert said in complaint[0]
    assert f"Release {good} serves" in complaint[0]
    assert versions(stack) == ["good", "good"]
    assert (stack.directory / ".env").read_text() == env
    assert load.failures == [], warnings(stack)


def test_a_migration_that_fails_leaves_the_old_release_serving(stack):
    deploy(stack, release(stack, "good"))
    before = {name: stack.container(name)["Id"] for name in ("web-a", "web-b")}
    head = stack.sql("SELECT version_num FROM alembic_version")
    run = deploy(stack, release(stack, "bad-migration", BAD_MIGRATION.format(head=head).strip()), check=False)
    assert run.returncode != 0
    assert "the migration failed, and what served serves on (now: good)" in run.stderr
    assert "division by zero" in run.stderr
    assert {name: stack.container(name)["Id"] for name in before} == before


def test_an_unknown_release_is_one_line(stack):
    run = deploy(stack, "no-such-release", check=False)
    assert run.returncode != 0
    assert f"there is no image {stack.image('no-such-release')} here, and it can't be pulled" in run.stderr


def killed(stack, tag, replica, whole):
    """A deploy that SIGKILL ends while that replica drains: only its process, or with all that it has started."""
    environment, pipe = stack.environment | BRIEF, subprocess.PIPE
    command = [sys.executable, "-m", "slipway.commands", "deploy", f"tag={tag}"]
    process = subprocess.Popen(command, cwd=stack.directory, env=environment, stdout=pipe, start_new_session=True)
    said = b""
    while f"  {replica}".encode() not in said:
        said += (chunk := os.read(process.stdout.fileno(), 1000))
        assert chunk, said
    wait_until("the new container beside the old one", lambda: len(containers(stack, replica)) == 2)
    (os.killpg if whole else os.kill)(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    return said.decode()


def containers(stack, service):
    labels = [f"com.docker.compose.project={stack.project}", f"com.docker.compose.service={service}"]
    filters = [f"--filter=label={label}" for label in labels]
    return stack.run("docker", "ps", "--all", "--quiet", *filters).stdout.split()


def tags(stack):
    """TAG and PREVIOUS_TAG of .env."""
    return tuple(re.findall(r"^(?:PREVIOUS_)?TAG=(.*)$", (stack.directory / ".env").read_text(), re.MULTILINE))


@alone
def test_a_deploy_that_is_killed_under_load_is_taken_up_by_the_next_and_undone_by_a_rollback(
    stack, certificate, record_property
):
    deploy(stack, release(stack, "steady"), **BRIEF)
    before = tags(stack)
    release(stack, "later")
    with LoadTest(url(stack), certificate) as load:
        wait_until("load", lambda: len(load.answers) > 50)
        killed(stack, "later", "web-a", whole=True)
        second = killed(stack, "later", "web-b", whole=False)
        early = stack.make("rollback", check=False)
        wait_until("what it had started to end", partial(free, stack.directory / ".deploy.lock"), 60)
        undone = stack.make("rollback", env=stack.environment | BRIEF).stdout
    print(f"{load}\n{second}\n{early.stderr}{undone}")
    record_property("figure", str(load))
    assert "deploy later was interrupted\ndeploy later (now: " in second
    assert "a restore or a rotation is under way" in early.stderr
    assert "deploy later was interrupted\nrollback to steady (now: web-a: later; web-b: " in undone
    assert (versions(stack), tags(stack)) == (["steady", "steady"], before)
    assert load.failures == [], warnings(stack)


@contextmanager
def set_in_env(stack, name, value):
    """Adds this setting to .env, or removes it; restores the file afterwards."""
    env = stack.directory / ".env"
    kept = env.read_text()
    lines = [line for line in kept.splitlines() if not line.startswith(f"{name}=")]
    env.write_text("\n".join([*lines, *([f"{name}={value}"] if value else [])]) + "\n")
    try:
        yield env.read_text()
    finally:
        env.write_text(kept)


def free(lock):
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return True


def test_a_configuration_that_the_proxy_cannot_use_is_refused_and_nothing_is_touched(stack):
    names = ("web-a", "web-b", "proxy")
    before = {name: stack.container(name)["Id"] for name in names}, tags(stack)
    caddyfile = stack.directory / "docker/proxy/caddy/Caddyfile"
    kept = caddyfile.read_text()
    caddyfile.write_text(kept + "\nlocalhost {\n\trespond nothing\n")
    try:
        run = deploy(stack, "local", check=False)
    finally:
        caddyfile.write_text(kept)
    assert run.returncode != 0
    assert "make deploy: the proxy can't use docker/proxy/caddy/Caddyfile: " in run.stderr
    assert "nothing was changed" in run.stderr
    assert ({name: stack.container(name)["Id"] for name in names}, tags(stack)) == before
    assert not (stack.directory / ".deploy.attempt").exists()


def test_a_rollback_to_an_image_that_was_pruned_changes_nothing_and_says_so_in_one_line(stack):
    before = versions(stack)
    with set_in_env(stack, "PREVIOUS_TAG", "pruned") as env:
        run = stack.make("rollback", check=False)
        assert (stack.directory / ".env").read_text() == env
    assert run.returncode != 0
    complaint = [line for line in run.stderr.splitlines() if line.startswith("make rollback:")]
    assert len(complaint) == 1, run.stderr
    assert f"there is no image {stack.image('pruned')} here, and it can't be pulled" in complaint[0]
    assert versions(stack) == before


def test_rollback_without_a_former_release_is_one_line(stack):
    with set_in_env(stack, "PREVIOUS_TAG", None):
        run = stack.make("rollback", check=False)
    assert run.returncode != 0
    assert "there is no release to go back to" in run.stderr


def test_a_deploy_leaves_the_proxy_and_the_database_alone_and_a_plain_compose_up_after_it_everything(stack):
    before = {name: stack.container(name)["Id"] for name in ("proxy", "db")}
    deploy(stack, release(stack, "alone"))
    assert {name: stack.container(name)["Id"] for name in before} == before
    before = {name: stack.container(name)["Id"] for name in ("proxy", "db", "web-a", "web-b")}
    stack.compose("up", "--detach", "--wait", "--no-build", env=stack.environment | AT_ONCE)
    assert {name: stack.container(name)["Id"] for name in before} == before
