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
    server.destroy()


def pushed(builder: Fork) -> dict[str, str]:
    """Pushes a commit; returns its release, and the digest of each image, as the command prints them."""
    builder.git("commit", "--quiet", "--allow-empty", "--message", "A release")
    said = builder.make("push").stdout
    digests = dict(re.findall(r"/(\w+):\S+ (sha256:\w{64})$", said, re.MULTILINE))
    return {"tag": re.search(r"make deploy TAG=(\S+)", said)[1], **digests}


def runs(server: Fork) -> list[str]:
    """The ids of the replicas' images."""
    return [server.container(name)["Image"] for name in ("web-a", "web-b")]


def test_a_server_deploys_what_was_pushed_and_goes_back_to_the_same_bytes_when_the_tag_has_moved(
    builder, server, prefix
):
    one, two = pushed(builder), pushed(builder)
    first, second = (f"{prefix}web:{each['tag']}" for each in (one, two))
    ids = server.run("docker", "image", "inspect", "--format", "{{.Id}}", first, second).stdout.split()
    assert ids[0] != ids[1]
    assert "  images" not in builder.make("push").stdout, "it pushes again what the registry has"

    # Both use one engine: the server has to get the image from the registry.
    server.run("docker", "image", "rm", "--force", first, f"{prefix}web@{one['web']}")
    server.make("init")
    server.make("deploy", f"TAG={one['tag']}")
    assert runs(server) == [ids[0]] * 2
    assert server.read(".images") == f"{first} {one['web']}\n"

    # As if the second release had been deployed since. The first one's tag moves in the registry and here.
    env = re.sub(r"(?m)^(PREVIOUS_)?TAG=.*\n", "", server.read(".env"))
    server.write(".env", f"{env}TAG={two['tag']}\nPREVIOUS_TAG={one['tag']}\n")
    server.run("docker", "tag", second, first)
    server.run("docker", "push", "--quiet", first)
    server.run("docker", "image", "rm", "--force", f"{prefix}web@{one['web']}")
    server.make("rollback")
    assert runs(server) == [ids[0]] * 2
    assert server.run("docker", "image", "inspect", "--format", "{{.Id}}", first).stdout.split() == ids[:1]

    refused = complaint(server.make("deploy", f"TAG={one['tag']}", check=False))
    assert f"{first} has moved: it was {one['web']}, and is {two['web']} in the registry" in refused
    assert runs(server) == [ids[0]] * 2
