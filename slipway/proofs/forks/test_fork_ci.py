"""`make test-stack` in a fork as its owner has it: renamed, without the sample, other services, other headers."""

import re

import pytest

from slipway.proofs.forks.fork import Fork

pytestmark = [pytest.mark.containers, pytest.mark.alone]

SERVICES = {"depot": ["host=depot.localhost"], "live": ["kind=asgi", "path=/feed"], "tick": ["kind=worker"]}
HEADERS = re.compile(r"^.*(Content-Security-Policy|Permissions-Policy|Referrer-Policy) .*\n", re.MULTILINE)


@pytest.fixture
def fork(tmp_path):
    fork = Fork(tmp_path)
    if (tmp_path / ".slipway.toml").exists():  # this tree is a fork itself
        (tmp_path / ".slipway.toml").unlink()
        fork.commit("Forget the name")
    if (tmp_path / "slipway/commands/remove_sample.py").exists():
        fork.make("remove-sample")
        fork.commit("Remove the sample")
    fork.make("rename", "name=myshop")
    fork.write("docker/proxy/caddy/Caddyfile", HEADERS.sub("", fork.read("docker/proxy/caddy/Caddyfile")))
    fork.write("services/web/src/web/templates/home.html", "<p>Fish</p>")
    fork.commit("Make it ours")
    for name, words in SERVICES.items():
        fork.make("service", f"name={name}", *words)
        fork.commit(f"Add {name}")
    yield fork
    fork.destroy()


def test_it_holds_with_other_services_and_no_test_of_the_forks_own(fork):
    # No variants of the Dockerfile, which do not depend on the fork, and of an ASGI image five promises, of its log,
    # ids and limits: contract/test_kinds.py judges those that have a database by all.
    tested = fork.make("test-stack", "args=-v -k '(system or web or live-2 or tick) and not minimal and not uwsgi'")
    for covered in ("keeps[web-1]", "keeps[live-2]", "keeps[tick-1]", "test_a_deploy_under_load_fails_no_request"):
        assert f"{covered} PASSED" in tested.stdout
    assert "skipped" not in tested.stdout
