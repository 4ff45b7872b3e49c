"""Dependencies from a private git server and a private index, as docs/services.md says: the images have the code, and
nothing has the key or the token."""

import base64
import gzip
import os
import re
import secrets
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from slipway.proofs.contract.contents import stream
from slipway.proofs.forks.fork import COMMITTER, Fork
from slipway.proofs.harness import ROOT, Stack, unique, wait_until

pytestmark = pytest.mark.containers

TEAM = secrets.token_hex(4)  # in each address, so that no cache of an earlier run knows it
TOKEN = secrets.token_urlsafe(32)
USE = "import mylib, pricelist; print(mylib.ORIGIN, pricelist.ORIGIN)"
GZIP = b"\x1f\x8b"

PROJECT = """\
[project]
name    = "mylib"
version = "1.0"

[build-system]
requires      = ["uv_build>=0.9,<1"]
build-backend = "uv_build"
"""
METADATA = "Metadata-Version: 2.1\nName: pricelist\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"

WORKSPACE = "chassis = { workspace = true }\n"
# What docs/services.md tells a fork to write.
SOURCES = """\
mylib     = {{ git = "{repository}" }}
pricelist = {{ index = "company" }}

[[tool.uv.index]]
name     = "company"
url      = "{index}"
explicit = true
"""
BUILD = ", ssh: [default], secrets: [known_hosts, netrc] }"
READABLE = """
secrets:
  known_hosts: { file: ~/.ssh/known_hosts }
  netrc:       { file: ~/.netrc }
"""

# A build that keeps the key in a layer, under a later one, and the token in the history.
LEAK = """
FROM scratch
ARG TOKEN
LABEL token=$TOKEN
COPY .ssh/id_ed25519 /key
COPY .ssh/id_ed25519.pub /key
"""
# Fails unless the builder's package cache has the team's packages, and no secret.
CACHE = f"""
FROM python:3.14-slim-trixie
RUN --mount=type=cache,target=/cache,id=/root/.cache/uv --mount=type=secret,id=secrets \\
    grep -rqF {TEAM} /cache && ! grep -rqFf /run/secrets/secrets /cache
"""


class Private:
    """A team's servers, and a home directory with what they ask for."""

    def __init__(self, directory: Path) -> None:
        self.home, self.served, self.agent = directory / "home", directory / "served", directory / "agent"
        self.known_hosts, self.netrc = self.home / ".ssh/known_hosts", self.home / ".netrc"
        self.key = self.home / ".ssh/id_ed25519"
        compose = ROOT / "slipway/proofs/stack/private.yaml"
        self.servers = Stack(ROOT, unique("private"), COMPOSE_FILE=compose, SERVED=self.served)

    def start(self) -> None:
        write_wheel(self.served / TEAM / "pricelist")
        write_repository(self.served / TEAM / "mylib.git")
        self.key.parent.mkdir(parents=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        (self.served / "authorized_keys").write_bytes(self.key.with_suffix(".pub").read_bytes())
        (self.served / "htpasswd").write_text(f"ci:{{PLAIN}}{TOKEN}\n")
        self.servers.compose("up", "--build", "--detach", "git", "index")
        host_key = self.servers.compose("exec", "-T", "git", "cat", "/etc/ssh/ssh_host_ed25519_key.pub").stdout
        self.known_hosts.write_text(f"{self.address('git')} {host_key}")
        self.netrc.write_text(self.login(TOKEN))

    def address(self, service: str) -> str:
        return self.servers.container(service)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]

    def login(self, token: str) -> str:
        return f"machine {self.address('index')} login ci password {token}\n"

    @property
    def secrets(self) -> list[bytes]:
        """The token, as it is and as it is sent, and the lines of the key."""
        lines = self.key.read_bytes().splitlines()[1:-1]
        return [TOKEN.encode(), base64.b64encode(f"ci:{TOKEN}".encode()), *lines]

    def leaks(self, *command: str) -> list[str]:
        """The files that hold a secret in an archive that docker writes: layers, configurations, manifests."""
        found = []
        with stream(*command) as archive:
            for member in archive:
                if member.isreg():
                    content = archive.extractfile(member).read()
                    content = gzip.decompress(content) if content.startswith(GZIP) else content
                    if any(secret in content for secret in self.secrets):
                        found.append(member.name)
        return found

    def leaks_of_push(self, image: str) -> list[str]:
        """The same in what a new registry gets."""
        self.servers.compose("up", "--detach", "--force-recreate", "registry")
        host = self.servers.compose("port", "registry", "5000").stdout.strip()
        wait_until("the registry", lambda: httpx.get(f"http://{host}/v2/", trust_env=False).is_success)
        run("docker", "tag", image, name := f"{host}/{image}")
        try:
            run("docker", "push", "--quiet", name)
        finally:
            run("docker", "image", "rm", name)
        return self.leaks("cp", f"{self.servers.container('registry')['Id']}:/var/lib/registry", "-")


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, **{"check": True, "capture_output": True, **options})


def write_wheel(folder: Path) -> None:
    folder.mkdir(parents=True)
    files = {"pricelist.py": 'ORIGIN = "index"\n'}
    files |= {f"pricelist-1.0.dist-info/{name}": text for name, text in [("METADATA", METADATA), ("WHEEL", WHEEL)]}
    files["pricelist-1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files)
    with zipfile.ZipFile(folder / "pricelist-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


def write_repository(folder: Path) -> None:
    (folder / "src/mylib").mkdir(parents=True)
    (folder / "src/mylib/__init__.py").write_text('ORIGIN = "repository"\n')
    (folder / "pyproject.toml").write_text(PROJECT)
    for arguments in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message", "Begin")):
        run("git", *COMMITTER, *arguments, cwd=folder)


@contextmanager
def agent(socket: Path, *keys: Path) -> Iterator[str]:
    """An agent that holds the keys."""
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as process:
        try:
            wait_until("the agent", socket.exists)
            for key in keys:
                run("ssh-add", "-q", "-", input=key.read_bytes(), env=os.environ | {"SSH_AUTH_SOCK": str(socket)})
            yield str(socket)
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    private = Private(tmp_path_factory.mktemp("private"))
    try:
        private.start()
        with agent(private.agent, private.key):
            yield private
    finally:
        private.servers.destroy()


@pytest.fixture(scope="module")
def fork(private: Private, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fork]:
    """A fork whose service depends on both, changed as docs/services.md says."""
    fork = Fork(tmp_path_factory.mktemp("fork"), SSH_AUTH_SOCK=private.agent, TAG="one")
    project = "services/web/pyproject.toml"
    sources = SOURCES.format(
        repository=f"ssh://git@{private.address('git')}/served/{TEAM}/mylib.git",
        index=f"http://{private.address('index')}/{TEAM}",
    )
    fork.replace(project, '["chassis', '["mylib", "pricelist", "chassis')
    fork.replace(project, WORKSPACE, WORKSPACE + sources)
    fork.replace("docker/service.Dockerfile", "libpq-dev", "libpq-dev git openssh-client")
    fork.write("compose/base.yaml", fork.read("compose/base.yaml") + READABLE)
    for name in ("compose/web.yaml", "compose/web.dev.yaml"):
        fork.write(name, re.sub(r"(?m)(^  build: .*) }$", rf"\1{BUILD}", fork.read(name)))
    # ssh asks the system for the home directory, and compose the environment.
    ssh = f"ssh -o UserKnownHostsFile={private.known_hosts}"
    fork.make("lock", env=fork.environment | {"NETRC": str(private.netrc), "GIT_SSH_COMMAND": ssh})
    fork.make("init")
    config = os.environ.get("DOCKER_CONFIG", str(Path.home() / ".docker"))
    fork.environment |= {"HOME": str(private.home), "DOCKER_CONFIG": config}
    yield fork
    fork.destroy()


def build(fork: Fork, **options) -> subprocess.CompletedProcess:
    """What `make deploy` does to build the images of a release: `docker compose build`."""
    program = "from slipway.commands import deploy; deploy.build('one')"
    return fork.run(sys.executable, "-c", program, **options)


@contextmanager
def absent(path: Path) -> Iterator[None]:
    aside = path.rename(path.with_suffix(".aside"))
    try:
        yield
    finally:
        aside.rename(path)


@contextmanager
def containing(path: Path, text: str) -> Iterator[None]:
    kept = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(kept)


# Before the builds that succeed: what these have fetched stays in the builder's cache.
def test_a_build_without_the_key_or_the_token_says_what_is_missing(private, fork, tmp_path):
    def said(**settings: str) -> str:
        failed = build(fork, env=fork.environment | settings, check=False)
        assert "the build failed, and nothing was changed:" in failed.stderr
        return failed.stderr

    assert "make sure SSH_AUTH_SOCK is set" in said(SSH_AUTH_SOCK="")
    with absent(private.netrc):
        assert f"{private.netrc}: no such file" in said()
    private.servers.compose("pause", "index")  # else its package may get into the cache
    with agent(tmp_path / "empty") as empty:
        assert "Permission denied (publickey)" in said(SSH_AUTH_SOCK=empty)
    with containing(private.known_hosts, ""):
        assert "Host key verification failed" in said()
    private.servers.compose("unpause", "index")
    with containing(private.netrc, private.login("wrong")):
        assert "401 Unauthorized" in said()


@pytest.fixture(scope="module")
def image(fork: Fork) -> str:
    build(fork)
    return fork.image("one")


def test_make_deploy_and_make_dev_build_images_with_the_code_from_both(fork, image):
    files = (word for name in ("base", "dev", "web.dev") for word in ("--file", f"compose/{name}.yaml"))
    fork.compose(*files, "build", "web")
    for built in (image, fork.image("dev")):
        python = ["docker", "run", "--rm", "--entrypoint", "python", built]
        assert run(*python, "-c", USE, text=True).stdout == "repository index\n"


def test_neither_key_nor_token_is_in_a_layer_the_history_or_what_a_push_sends(private, image):
    assert private.leaks("save", image) == []
    assert private.leaks_of_push(image) == []


def test_neither_is_in_what_the_builder_keeps(private, fork, image, tmp_path):
    """Its package cache, and the stage that has fetched the packages, which an exported cache may hold."""
    (tmp_path / "secrets").write_bytes(b"\n".join(private.secrets))
    run("docker", "build", f"--secret=id=secrets,src={tmp_path}/secrets", "-", input=CACHE.encode())
    stage = ["--target", "build", "--build-arg", "SERVICE=web", "--file", "docker/service.Dockerfile"]
    fork.run("docker", "build", *stage, "--tag", name := fork.image("stage"), ".")
    assert private.leaks("save", name) == []


def test_a_leak_would_be_found(private, image):
    name, file = f"{image}-leak", ["--build-arg", f"TOKEN={TOKEN}", "--file", "-", private.home]
    run("docker", "build", "--tag", name, *file, input=LEAK.encode())
    for found in (private.leaks("save", name), private.leaks_of_push(name)):
        assert len(found) >= 2  # the layer and the configuration
