"""Two forks on one host, development and production of both at once: neither affects the other."""

import json
import re
import secrets
import ssl
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from slipway.proofs.forks.fork import Fork
from slipway.proofs.harness import Stack, free_port, make_dev, ports, with_probe

pytestmark = pytest.mark.containers
KINDS = ("container", "volume", "network")


class Renamed(Fork):
    """A fork as its owner has it: only its name, and ports in `.env`, keep it apart."""

    def __init__(self, directory: Path, name: str) -> None:
        super().__init__(directory)
        (with_probe(directory) / ".slipway.toml").unlink(missing_ok=True)  # where this tree is a fork itself
        self.commit("Add what the test asks for")
        self.project = name
        for variable in ("COMPOSE_PROJECT_NAME", "IMAGE_PREFIX"):
            self.environment.pop(variable)
        self.make("rename", f"name={name}")
        self.git("remote", "add", "origin", f"https://me:token@git.example/team/{name}.git")
        self.ports = ports()
        self.dev_port = free_port()
        self.authors = f"Team {name} <team@{name}.example>"
        settings = {**self.ports, "DEV_PORT": self.dev_port, "AUTHORS": self.authors}
        lines = [f"{key}={value}" for key, value in settings.items()]
        self.write(".env", self.read(".env") + "\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        return f"https://localhost:{self.ports['HTTPS_PORT']}"

    def made(self) -> dict[str, set[str]]:
        """The fork's objects of each kind, by the labels that compose sets."""
        made = {kind: {name for project in self.projects for name in self._named(kind, project)} for kind in KINDS}
        made["image"] = set(self.projects[0]._images())
        made["port"] = {
            binding["HostPort"]
            for project in self.projects
            for container in project.containers()
            for bindings in container["NetworkSettings"]["Ports"].values()
            for binding in bindings or ()
        }
        return made

    def _named(self, kind: str, project: Stack) -> list[str]:
        every = ["--all"] if kind == "container" else []
        lines = self.run("docker", kind, "ls", *every, "--format", "{{json .}}", "--filter", project._label).stdout
        return [(entry := json.loads(line)).get("Names") or entry["Name"] for line in lines.splitlines()]

    @property
    def projects(self) -> list[Stack]:
        prefix = f"{self.project}/"
        return [Stack(self.directory, name, IMAGE_PREFIX=prefix) for name in (self.project, f"{self.project}-dev")]

    def destroy(self) -> None:
        for project in self.projects:
            project.destroy()


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    with ExitStack() as stack:
        made = []
        for word in ("bakery", "fishery"):
            name = f"{word}{secrets.token_hex(3)}"
            fork = Renamed(tmp_path_factory.mktemp(word), name)
            stack.callback(fork.destroy)
            made.append(fork)
        for fork in made:
            fork.make("up")
            fork.development = stack.enter_context(make_dev(fork, fork.dev_port))
        yield made


@pytest.fixture(scope="module")
def client(forks):
    """A browser that trusts both, and keeps cookies by host, whatever the port."""
    context = ssl.create_default_context()
    for fork in forks:
        certificate = fork.authority()
        context.load_verify_locations(cadata=certificate)
    with httpx.Client(verify=context, trust_env=False, timeout=20) as client:
        yield client


def sites(fork: Renamed) -> dict[str, str]:
    return {"production": fork.url, "development": fork.development.url}


def titles(client: httpx.Client, url: str) -> list[str]:
    return client.get(f"{url}/probe/rows").raise_for_status().json()["titles"]


def test_nothing_that_one_has_made_is_the_others(forks):
    one, other = (fork.made() for fork in forks)
    for kind, names in one.items():
        assert names, kind
        assert not names & other[kind]
        assert kind == "port" or all(name.startswith(forks[0].project) for name in names), names


def test_each_image_says_where_its_source_is_without_a_login_and_what_it_is(forks):
    for fork in forks:
        image = json.loads(fork.run("docker", "image", "inspect", f"{fork.project}/web:local").stdout)[0]
        labels = {name.rpartition(".")[2]: value for name, value in image["Config"]["Labels"].items()}
        assert labels["source"] == f"https://git.example/team/{fork.project}.git"
        assert labels["authors"] == fork.authors
        assert labels["licenses"]
        assert labels["description"]
        assert "me:token" not in json.dumps(image)


def test_each_answers_with_its_own_rows_in_development_and_in_production(forks, client):
    expected = {}
    for fork in forks:
        for where, url in sites(fork).items():
            expected[url] = [f"The {where} of {fork.project}"]
            client.post(f"{url}/probe/rows", json={"title": expected[url][0]}).raise_for_status()
    assert {url: titles(client, url) for url in expected} == expected


@pytest.mark.parametrize("where", ["production", "development"])
def test_one_browser_has_a_session_with_each(forks, client, where):
    one, other = (sites(fork)[where] for fork in forks)
    form = client.get(f"{one}/probe/form")
    client.get(f"{other}/probe/form")
    token = re.search(r'name="csrf_token" value="([^"]*)"', form.text)[1]
    sent = client.post(
        f"{one}/probe/form",
        data={"title": "Typed before the other was visited", "csrf_token": token},
        headers={"Referer": str(form.url)},
    )
    assert (sent.status_code, sent.text) == (200, "accepted")


def test_taking_one_down_even_with_its_data_leaves_the_other(forks, client):
    one, other = forks
    before = {url: titles(client, url) for url in sites(other).values()}
    running = other.made()
    one.development.stop()
    one.make("down")
    one.compose("down", "--volumes")
    assert not one.made()["network"]
    assert other.made() == running
    assert {url: titles(client, url) for url in before} == before
