"""A registry in between: one checkout pushes, another deploys, and a tag means the same bytes for good."""

import re
from collections.abc import Iterator

import httpx
import pytest

from slipway.proofs.forks.fork import Fork, complaint
from slipway.proofs.harness import ROOT, Stack, ports, unique, wait_until

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A team's folder in a registry that has nothing yet."""
    private = ROOT / "slipway/proofs/stack/private.yaml"
    stack = Stack(ROOT, unique("registry"), COMPOSE_FILE=private, SERVED=tmp_path_factory.mktemp("served"))
    try:
        stack.compose("build", "git")
        stack.compose("up", "--detach", "registry")
        host = stack.compose("port", "registry", "5000").stdout.strip()
        wait_until("the registry", lambda: httpx.get(f"http://{host}/v2/", trust_env=False).is_success)
        yield f"{host}/{stack.project}/"
    finally:
        stack.destroy()


@pytest.fixture(scope="module")
def builder(prefix: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fork]:
    """Where the images are built: a checkout without an `.env`, as in CI."""
    fork = Fork(tmp_path_factory.mktemp("builder"), IMAGE_PREFIX=prefix)
    yield fork
    fork.destroy()


@pytest.fixture(scope="module")
def server(builder: Fork, prefix: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fork]:
    server = Fork(tmp_path_factory.mktemp("server"), builder, IMAGE_PREFIX=prefix, **ports())
    yield server
    moved = ("docker", "image", "ls", "--quiet", "--filter", "dangling=true", f"{prefix}*")  # it has no name to list
    for each in server.run(*moved).stdout.split():
        server.run("docker", "image", "rm", each)
    server.destroy()


def runs(server: Fork) -> list[str]:
    """The ids of the replicas' images."""
    return [server.container(name)["Image"] for name in ("web-a", "web-b")]


def test_a_server_deploys_what_was_pushed_and_goes_back_to_the_same_bytes_when_the_tag_has_moved(
    builder, server, prefix
):
    said = builder.make("push").stdout
    release = re.search(r"make deploy TAG=(\S+)", said)[1]
    digests = dict(re.findall(r"/(\w+):\S+ (sha256:\w{64})$", said, re.MULTILINE))
    image, digest = f"{prefix}web:{release}", digests["web"]
    assert digests["proxy"]
    identity = server.run("docker", "image", "inspect", "--format", "{{.Id}}", image).stdout.strip()

    # Both use one engine: the server has to get the image from the registry.
    server.run("docker", "image", "rm", "--force", image, f"{prefix}web@{digest}")
    server.make("init")
    server.make("deploy", f"TAG={release}")
    assert runs(server) == [identity] * 2
    assert server.read(".images") == f"{image} {digest}\n"

    # As if another release had been deployed since. The tag moves in the registry and here, and its image is pruned.
    env = re.sub(r"(?m)^(PREVIOUS_)?TAG=.*\n", "", server.read(".env"))
    server.write(".env", f"{env}TAG=later\nPREVIOUS_TAG={release}\n")
    server.run("docker", "build", "--quiet", "--tag", image, "-", input=f"FROM {image}\nENV VERSION=other\n")
    moved = re.search(r"digest: (\S+)", server.run("docker", "push", image).stdout)[1]
    server.run("docker", "image", "rm", "--force", f"{prefix}web@{digest}")
    server.make("rollback")
    assert runs(server) == [identity] * 2
    assert server.run("docker", "image", "inspect", "--format", "{{.Id}}", image).stdout.strip() == identity

    refused = complaint(server.make("deploy", f"TAG={release}", check=False))
    assert f"{image} has moved: it was {digest}, and is {moved} in the registry" in refused
    assert runs(server) == [identity] * 2
