import pytest

from slipway.proofs.forks.fork import Fork
from slipway.proofs.harness import with_probe
from slipway.proofs.kubernetes.node import Node, running
from slipway.proofs.stack.test_egress import WEB, allow

# A service of each kind beside web, as `make service` adds it.
KINDS = {
    "depot": ["host=depot.localhost"],
    "orders": ["kind=asgi", "db=yes"],
    "ui": ["kind=static", "path=/front"],
    "tick": ["kind=worker"],
    "ledger": ["kind=worker", "db=yes"],
    "report": ["kind=script", "db=yes"],
}
OVERLAYS = ("local", "production")


@pytest.fixture(scope="session")
def fork(tmp_path_factory):
    """A fork that has every kind of service, two with ways out, and the probe's routes in web."""
    fork = Fork(tmp_path_factory.mktemp("kubernetes"))
    try:
        fork.make(".venv/installed")
        for name, words in KINDS.items():
            fork.make("service", f"name={name}", *words, "--old-file=.venv/installed")
            fork.commit(f"Add {name}")
        with_probe(fork.directory)
        allow(fork, "web", *WEB)
        allow(fork, "tick", "mail.example.com:465")
        for overlay in OVERLAYS:
            settings = f"deploy/kubernetes/overlays/{overlay}/settings.env"
            fork.write(settings, fork.read(settings) + "EGRESS_ADDRESS=10.96.0.80\n")
        fork.make("init")
        yield fork
    finally:
        fork.destroy()


@pytest.fixture(scope="session")
def node(fork, tmp_path_factory) -> Node:
    with running(fork, tmp_path_factory.mktemp("node")) as node:
        yield node
