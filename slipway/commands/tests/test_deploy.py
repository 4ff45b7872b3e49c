"""What `.env` names is what serves: `make deploy` and `make rollback`, interrupted at every step.

The steps are simulated: each command runs in its own process, in which `docker` is a few lines that keep their
state in a file, and which a signal can end before any call to docker and any change to a file.
"""

import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from slipway.commands import ROOT
from slipway.commands.shared.compose import build_problem

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FIRST, SECOND = ("sha256:" + letter * 64 for letter in "12")  # what a tag means first in the registry, and later


class Run(NamedTuple):
    code: int  # negative if a signal ended it
    said: str


def described(container: str, number: int, settings: str) -> dict:
    """What `docker inspect` says of it."""
    labels = {"service": "listener" if container == "listener" else "proxy", "config-hash": settings}
    return {
        "Id": container,
        "Image": "id",
        "State": {"StartedAt": str(number), "Health": {"Status": "healthy"}},
        "Config": {
            "Image": "proxy:caddy-2",
            "Labels": {f"com.docker.compose.{name}": value for name, value in labels.items()},
        },
    }


@dataclass
class Server:
    """A checkout in which B serves, after A, and docker's state there. Images of C and D exist, too."""

    directory: Path

    def __post_init__(self) -> None:
        if self.directory.exists():
            return
        self.directory.mkdir()
        (self.directory / "slipway").symlink_to(ROOT / "slipway")
        self.add_service("web", 'migrate = "migrate"')
        self.env.write_text("SITE_ADDRESS=localhost\nTAG=B\nPREVIOUS_TAG=A\nDEV_PORT=8001\n")
        self.save(
            runs={"web-a": "B", "web-b": "B"}, images={f"test/web:{tag}": tag for tag in "ABCD"}, registry={}, kept=[],
            silent=False, uncommitted="",
            broken=[], migrated=[], proxy="", proxies={"one": "first"}, settings="first", steps=0,
        )  # fmt: skip

    @property
    def env(self) -> Path:
        return self.directory / ".env"

    @property
    def state(self) -> dict:
        return json.loads((self.directory / "state.json").read_text())

    def save(self, **changes) -> None:
        path = self.directory / "state.json"
        path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | changes))

    def add_service(self, name: str, more: str = "") -> None:
        (self.directory / "services" / name).mkdir(parents=True)
        (self.directory / "services" / name / "pyproject.toml").write_text(f'[tool.slipway]\nkind = "web"\n{more}\n')

    @property
    def runs(self) -> set[str]:
        return set(self.state["runs"].values())

    @property
    def named(self) -> tuple[str, str]:
        """TAG and PREVIOUS_TAG of .env."""
        names = dict(line.split("=") for line in self.env.read_text().splitlines())
        assert names["DEV_PORT"] == "8001"
        return names["TAG"], names["PREVIOUS_TAG"]

    @property
    def noted(self) -> str:
        return (self.directory / ".images").read_text()

    def make(
        self,
        verb: str,
        tag: str = "",
        end: tuple[int, int] | None = None,
        prefix: str = "test/",
        version: str = "unversioned",
    ) -> Run:
        """Runs the command; `end` is the step before which a signal arrives, and the signal."""
        said = self.directory / "said"
        if not (child := os.fork()):
            try:
                os.environ.update(IMAGE_PREFIX=prefix, VERSION=version)
                self.become(verb, tag, end, said)
            except SystemExit as leave:
                print(leave.code or "", file=sys.stderr, flush=True)
                os._exit(1 if leave.code else 0)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(70)
            sys.stdout.flush()
            os._exit(0)
        return Run(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.read_text())

    def become(self, verb: str, tag: str, end: tuple[int, int] | None, said: Path) -> None:
        """Turns this process into the tool, with a stand-in for docker."""
        sys.stdout = sys.stderr = said.open("w", buffering=1)
        sys.path.insert(0, str(self.directory))
        for name in [name for name in sys.modules if name.partition(".")[0] == "slipway"]:
            del sys.modules[name]
        self.save(steps=0)

        def ending(act):
            def ended(*arguments, **options):
                steps = self.state["steps"]
                self.save(steps=steps + 1)
                if end and end[0] == steps:
                    os.kill(os.getpid(), end[1])
                return act(*arguments, **options)

            return ended

        subprocess.run = ending(self.docker)
        os.fsync = lambda descriptor: None  # a signal leaves what was written, and a busy disk is slow
        time.sleep = lambda seconds: None
        Path.replace, Path.unlink = ending(Path.replace), ending(Path.unlink)
        sys.argv = ["slipway.commands", verb, *([f"tag={tag}"] if tag else [])]
        runpy.run_module("slipway.commands", run_name="__main__")

    def docker(self, command, env=None, **_) -> subprocess.CompletedProcess:
        code, out, err = self.answer(list(command[1:]), (env or {}).get("TAG") or self.named[0])
        return subprocess.CompletedProcess(command, code, out, err)

    def answer(self, words: list[str], tag: str) -> tuple[int, str, str]:
        state, line = self.state, " ".join(words)
        replicas = [f"{path.name}-{which}" for path in (self.directory / "services").iterdir() for which in "ab"]
        if words[0] == "version" or line.startswith("compose version"):
            return 0, "28.5", ""
        if answer := self.about_the_proxy(words):
            return answer
        if words[0] == "status":  # git's
            return 0, state["uncommitted"], ""
        if "json" in words:
            names = {name: {"image": f"test/{name[:-2]}:{tag}"} for name in replicas}
            proxy = {"image": "test/proxy:caddy-2", "build": {}}
            return 0, json.dumps({"services": names | {"proxy": proxy}}), ""
        if words[:2] == ["image", "inspect"]:
            return int(words[2] not in state["images"]), "", ""
        if answer := self.about_the_registry(words):
            return answer
        if "--images" in words:
            named = [f"test/{name[:-2]}:{tag}" for name in replicas if name in words]
            others = ["postgres:18-trixie", "proxy:caddy-2"]  # that they depend on, or that is the one
            return 0, "\n".join([*named, *named, *others]), ""
        if "ps" in words:
            rows = [(name, f"test/{name[:-2]}:{tag}") for name, tag in state["runs"].items()]
            if "{{.Health}}" in words:  # of one
                return 0, "healthy" if words[-1] in state["runs"] else "", ""
            return 0, "".join(f"{name} {image} healthy\n" for name, image in rows), ""
        if words[1] == "run" and words[-1].endswith("migrate"):
            self.save(migrated=[*state["migrated"], tag])
            return int(f"migrate {tag}" in state["broken"]), "", "division by zero"
        if words[1] == "rm":
            self.save(runs={name: runs for name, runs in state["runs"].items() if name not in words})
        if words[1] == "up" and words[-1] in state["broken"]:
            return 1, "", "container is unhealthy"
        if words[1] == "up":
            others = [] if {"--no-recreate", "--no-deps"} & set(words) else replicas
            return self.up([name for name in replicas if name in words] or others, tag)
        return 0, "", ""

    def about_the_registry(self, words: list[str]) -> tuple[int, str, str] | None:
        """It knows what each tag means now, and keeps the bytes of what it meant before."""
        images, tags, name = self.state["images"], self.state["registry"], words[-1]
        found = tags.get(name)
        if words[0] == "buildx":
            return (1, "", "not found") if self.state["silent"] or not found else (0, f'{{"digest": "{found}"}}', "")
        if words[0] == "tag":
            found = words[1].partition("@")[2]
            if found not in images.values():
                return 1, "", "No such image"
        elif words[0] == "pull":
            by_digest = name.partition("@")[2]
            found = by_digest if by_digest in self.state["kept"] else found
        else:
            return None
        if found:
            self.save(images=images | {name: found})
        return int(not found), f"Digest: {found}\nStatus: Downloaded newer image\n", "" if found else "no such host"

    def about_the_proxy(self, words: list[str]) -> tuple[int, str, str] | None:
        """Its containers, each with the settings that it was made with. The listener is one that never changes."""
        state, proxies = self.state, self.state["proxies"]
        if words[-1] == "check":
            return (1, "", "Error: ambiguous site definition: http://") if state["proxy"] == "invalid" else (0, "", "")
        if words[1:] == ["build", "proxy"] and state["proxy"] == "mistyped":
            step = "#9 1.234 CADDY_PLUGINS: go: module example.org/mistyped: not found\n#9 ERROR: process failed\n"
            return 1, "", f"{step}failed to solve: process failed"
        if words[-1] == "both":
            return 0, '{"apps": {}}\n{"apps": {}}\n', ""
        if words[0] in ("kill", "logs") or words[1:4] == ["exec", "-T", "listener"]:
            return 0, "", "no memory" if words[0] == "logs" else ""
        if words[1:4] == ["ps", "--all", "--quiet"]:
            return 0, "\n".join([*(["listener"] if "listener" in words else []), *proxies]), ""
        if "--hash" in words:
            return 0, f"listener first\nproxy {state['settings']}\n", ""
        if words[0] == "inspect":
            return (
                0,
                json.dumps(
                    [described(each, number, proxies.get(each, "first")) for number, each in enumerate(words[1:])]
                ),
                "",
            )
        if words[:3] == ["image", "inspect", "--format"]:
            return 0, "id" if words[3] == "{{.Id}}" else "", ""
        if words[0] == "rm":
            self.save(proxies={each: of for each, of in proxies.items() if each != words[-1]})
        elif words[-1] == "proxy" and "--scale" in words:
            if f"proxy={len(proxies)}" not in words:
                self.save(proxies=proxies | {f"with-{state['settings']}": state["settings"]})
            if state["proxy"] == "fails":
                return 1, "", "container is unhealthy"
        elif words[0] != "stop":
            return None
        return 0, "", ""

    def up(self, replicas: list[str], tag: str) -> tuple[int, str, str]:
        runs, broken = self.state["runs"], self.state["broken"]
        down = [name for name in replicas if f"{name} {tag}" in broken]
        started = [name for name in replicas if name not in down]
        self.save(runs={name: of for name, of in runs.items() if name not in down} | dict.fromkeys(started, tag))
        self.save(bytes=[self.state["images"].get(f"test/{name[:-2]}:{tag}") for name in started])
        return int(bool(down)), "", "container is unhealthy" if down else ""

    def compose_up(self) -> None:
        """`docker compose up -d`, by hand."""
        self.answer(["compose", "up", "--detach"], self.named[0])


@pytest.fixture
def server(tmp_path):
    return Server(tmp_path / "server")


@pytest.fixture(scope="module")
def all_killed(tmp_path_factory):
    """A server for each step before which SIGKILL ended the deploy of C, unless it is the same as a step earlier."""
    states = []
    for step in range(1000):
        server = Server(tmp_path_factory.mktemp("killed") / "server")
        run = server.make("deploy", "C", end=(step, signal.SIGKILL))
        if run.code == 0:
            assert len(states) >= 5, states
            return [server for _, server in states]
        assert run.code == -signal.SIGKILL, run.said
        files = {path.name: path.read_text() for path in server.directory.glob(".*")}
        found = server.state | {"steps": 0}, files
        if not states or states[-1][0] != found:
            states.append((found, server))
    raise AssertionError("it has no end")


@pytest.fixture
def killed(all_killed, tmp_path):
    """Copies of the killed servers."""
    return [
        Server(shutil.copytree(server.directory, tmp_path / str(number), symlinks=True))
        for number, server in enumerate(all_killed)
    ]


def begun(server: Server) -> bool:
    """Whether anything has been changed to C while .env names B."""
    return server.named[0] == "B" and (server.runs != {"B"} or server.state["migrated"] != [])


def test_a_deploy_and_a_rollback_write_what_serves(server):
    run = server.make("deploy", "C")
    assert (run.code, server.runs, server.named) == (0, {"C"}, ("C", "B")), run.said
    assert "deploy C (now: B)" in run.said
    assert "C serves, after" in run.said
    run = server.make("rollback")
    assert (run.code, server.runs, server.named) == (0, {"B"}, ("B", "C")), run.said
    assert {path.name for path in server.directory.glob(".*")} == {".env", ".deploy.lock"}


def test_whenever_a_deploy_is_killed_env_names_the_new_release_only_once_it_serves_whole(killed):
    assert [server.named[0] for server in killed if server.runs != {"B"}].count("C") >= 1
    for server in killed:
        assert server.named[0] == "B" or server.runs == {"C"}, server.state


def test_a_rollback_after_a_deploy_that_was_killed_at_any_step_never_goes_two_releases_back(killed):
    for server in killed:
        amid, done = begun(server), server.named[0] == "C"
        run = server.make("rollback")
        assert (run.code, server.runs) == (0, {server.named[0]}), run.said
        assert f"{server.named[0]} serves" in run.said
        if amid:
            assert server.named == ("B", "A"), run.said
            assert "deploy C was interrupted" in run.said
        elif done:
            assert server.named == ("B", "C"), run.said


def test_a_deploy_after_one_that_was_killed_at_any_step_takes_its_place(killed):
    for server in killed:
        amid, former = begun(server), server.named[0]
        run = server.make("deploy", "D")
        assert (run.code, server.runs, server.named) == (0, {"D"}, ("D", former)), run.said
        assert "deploy C was interrupted" in run.said or not amid, run.said
        assert server.make("rollback").code == 0
        assert (server.runs, server.named) == ({former}, (former, "D"))


def test_a_plain_compose_up_after_one_that_was_killed_at_any_step_is_what_env_names_and_so_is_a_rollback(killed):
    for server in killed:
        amid, former = begun(server), server.named[0]
        server.compose_up()
        assert server.runs == {former}
        run = server.make("rollback")
        assert (run.code, server.runs) == (0, {server.named[0]}), run.said
        if amid:
            assert server.named == ("B", "A"), run.said
            assert "deploy C was interrupted" in run.said
            assert "rollback to B (now: B)" in run.said
            assert server.make("rollback").code == 0
            assert (server.runs, server.named) == ({"A"}, ("A", "B")), "the next one goes back"


def test_a_rollback_that_was_killed_is_completed_by_the_next(tmp_path):
    for step in range(1000):
        server = Server(tmp_path / str(step))
        if server.make("rollback", end=(step, signal.SIGKILL)).code == 0:
            break
        if server.named[0] == "B" and server.runs != {"B"}:
            run = server.make("rollback")
            assert (run.code, server.runs, server.named) == (0, {"A"}, ("A", "B")), run.said
    assert server.named == ("A", "B")


def test_an_undoing_that_was_killed_goes_on_and_not_back(killed):
    server = next(server for server in killed if server.runs == {"B", "C"})
    for step in range(5, 15):
        server.make("rollback", end=(step, signal.SIGKILL))
        assert "A" not in server.runs
    run = server.make("rollback")
    assert (run.code, server.runs, server.named) == (0, {"B"}, ("B", "A")), run.said


def test_a_deploy_that_fails_leaves_no_replica_of_those_that_were_killed_before(server):
    server.save(runs={"web-a": "C", "web-b": "D"}, broken=["web-a A"])
    run = server.make("deploy", "A")
    assert (run.code, server.runs, server.named) == (1, {"B"}, ("B", "A")), run.said
    assert "Release B serves" in run.said


def test_a_migration_that_fails_leaves_what_an_interrupted_deploy_left_to_the_next(killed):
    server = next(server for server in killed if server.runs == {"B", "C"})
    server.save(broken=["migrate D"])
    run = server.make("deploy", "D")
    assert (run.code, server.runs, server.named) == (1, {"B", "C"}, ("B", "A")), run.said
    assert "what served serves on (now: web-a: C; web-b: B)" in run.said
    assert server.make("rollback").code == 0
    assert (server.runs, server.named) == ({"B"}, ("B", "A"))


def test_what_an_interrupted_deploy_says_is_true(tmp_path):
    for step in range(1000):
        server = Server(tmp_path / str(step))
        run = server.make("deploy", "C", end=(step, SIGNALS[step % len(SIGNALS)]))
        if run.code == 0:
            break
        assert run.code == 1, f"at step {step}: {run.said}"
        last = run.said.splitlines()[-1]
        assert re.match(r"make deploy: interrupted( while web-[ab] was being replaced)?; now: ", last), run.said
        serving = re.search(r"now: (.+?)(?:\. |\.$)", last)[1]
        runs = server.state["runs"]
        each = "; ".join(f"{name}: {tag}" for name, tag in runs.items())
        assert serving == (each if len(set(runs.values())) > 1 else runs["web-a"]), f"at step {step}: {run.said}"
        assert "`make rollback` goes back to B" in last or not begun(server), f"at step {step}: {run.said}"


@pytest.mark.parametrize(("verb", "tag"), [("deploy", "C"), ("rollback", "")])
def test_with_a_configuration_that_the_proxy_cannot_use_nothing_is_touched(server, verb, tag):
    server.save(proxy="invalid")
    run = server.make(verb, tag)
    assert (run.code, server.runs, server.named, server.state["migrated"]) == (1, {"B"}, ("B", "A"), []), run.said
    assert "docker/proxy/caddy/Caddyfile: ambiguous site definition: http://" in run.said
    assert "nothing was changed" in run.said


@pytest.mark.parametrize(("verb", "tag"), [("deploy", "C"), ("rollback", "")])
def test_where_caddy_cannot_be_built_with_its_modules_nothing_is_touched(server, verb, tag):
    server.env.write_text(f"{server.env.read_text()}CADDY_PLUGINS=example.org/mistyped\n")
    server.save(proxy="mistyped")
    run = server.make(verb, tag)
    assert run.code == 1
    reason = "CADDY_PLUGINS: go: module example.org/mistyped: not found"
    assert f"the proxy can't be built: {reason}; nothing was changed" in run.said
    assert (server.runs, server.named) == ({"B"}, ("B", "A"))


def test_where_a_new_proxy_does_not_start_the_release_serves_through_the_former_one(server):
    server.save(proxy="fails", settings="second")
    run = server.make("deploy", "C")
    assert (run.code, server.runs, server.named) == (1, {"C"}, ("C", "B")), run.said
    assert "release C serves, but the proxy is the former one: no memory" in run.said
    assert server.state["proxies"] == {"one": "first"}


def test_a_proxy_with_other_settings_is_replaced_and_whatever_interrupts_that_one_is_left(tmp_path):
    replaced = {"with-second": "second"}

    def deployed(number: int, end: int | None) -> Server:
        server = Server(tmp_path / str(number))
        server.save(settings="second")
        server.make("deploy", "C", end=end and (end, signal.SIGKILL))
        return server

    whole = deployed(0, None)
    assert whole.state["proxies"] == replaced
    found = set()
    for back in range(1, 12):  # the steps of the replacement, which are the last ones
        server = deployed(back, whole.state["steps"] - back)
        found.add(two := len(server.state["proxies"]))
        run = server.make("deploy", "C")
        assert (run.code, server.state["proxies"]) == (0, replaced), f"{back} before the end: {run.said}"
        assert ("the proxy's replacement was interrupted" in run.said) == (two == 2)
    assert found == {1, 2}


def test_a_rollback_to_an_image_that_was_pruned_pulls_it_or_changes_nothing(server):
    server.save(images={"test/web:B": "B"})
    run = server.make("rollback")
    assert (run.code, server.runs, server.named) == (1, {"B"}, ("B", "A")), run.said
    assert "there is no image test/web:A here, and it can't be pulled" in run.said
    server.save(registry={"test/web:A": FIRST}, kept=[FIRST])
    run = server.make("rollback")
    assert (run.code, server.runs, server.named) == (0, {"A"}, ("A", "B")), run.said


@pytest.fixture
def pulled(server):
    """A server that has pulled E, and then deployed C."""
    server.save(registry={"test/web:E": FIRST}, kept=[FIRST, SECOND])
    for tag in "EC":
        run = server.make("deploy", tag)
        assert (run.code, server.runs) == (0, {tag}), run.said
    return server


def test_the_first_deploy_of_a_tag_from_the_registry_records_its_digest_in_a_file_beside_env(pulled):
    assert pulled.noted == f"test/web:E {FIRST}\n"
    assert {path.name for path in pulled.directory.glob(".*")} == {".env", ".deploy.lock", ".images"}


@pytest.mark.parametrize("here", [{}, {"test/web:E": SECOND}], ids=["pruned", "tagged otherwise"])
def test_a_rollback_gets_the_noted_bytes_even_where_the_tag_has_moved(pulled, here):
    pulled.save(registry={"test/web:E": SECOND}, images={"test/web:C": "C"} | here)
    run = pulled.make("rollback")
    assert (run.code, pulled.runs, pulled.state["bytes"]) == (0, {"E"}, [FIRST]), run.said
    pulled.save(images={"test/web:C": "C"} | here, kept=[SECOND])
    assert pulled.make("deploy", "C").code == 0
    run = pulled.make("rollback")
    assert (run.code, pulled.runs) == (1, {"C"}), run.said
    assert f"test/web:E is {FIRST} in .images, not here, and can't be pulled: no such host" in run.said


def test_a_deploy_of_a_tag_that_has_moved_is_refused_in_one_line_with_both_digests(pulled):
    pulled.save(registry={"test/web:E": SECOND})
    run = pulled.make("deploy", "E")
    assert (run.code, pulled.runs, pulled.named) == (1, {"C"}, ("C", "E")), run.said
    (line,) = [line for line in run.said.splitlines() if line.startswith("make deploy:")]
    assert f"test/web:E has moved: it was {FIRST}, and is {SECOND} in the registry; push the change under a new" in line
    (pulled.directory / ".images").write_text("")
    pulled.save(images={"test/web:C": "C"})
    run = pulled.make("deploy", "E")
    assert (run.code, pulled.state["bytes"], pulled.noted) == (0, [SECOND], f"test/web:E {SECOND}\n"), run.said


def test_where_the_registry_does_not_answer_the_noted_bytes_are_deployed(pulled):
    pulled.save(registry={"test/web:E": SECOND}, silent=True)
    run = pulled.make("deploy", "E")
    assert (run.code, pulled.runs, pulled.state["bytes"]) == (0, {"E"}, [FIRST]), run.said


def test_a_registry_that_only_the_engine_reaches_is_pulled_from_and_noted_too(server):
    server.save(registry={"test/web:E": FIRST}, silent=True)
    run = server.make("deploy", "E")
    assert (run.code, server.state["bytes"], server.noted) == (0, [FIRST], f"test/web:E {FIRST}\n"), run.said


def test_an_image_that_was_built_here_and_never_pushed_is_never_pulled(server):
    server.save(registry={"test/web:C": FIRST, "test/web:B": FIRST}, kept=[FIRST])
    for verb, tag, bytes_of in (("deploy", "C", "C"), ("rollback", "", "B")):
        run = server.make(verb, tag)
        assert (run.code, server.state["bytes"]) == (0, [bytes_of]), run.said
    assert not (server.directory / ".images").exists()


def test_a_tag_has_one_meaning_whenever_its_first_deploy_was_killed(tmp_path):
    for step in range(1000):
        server = Server(tmp_path / str(step))
        server.save(registry={"test/web:E": FIRST}, kept=[FIRST, SECOND])
        server.make("deploy", "E", end=(step, signal.SIGKILL))
        known, here = (server.directory / ".images").exists(), "test/web:E" in server.state["images"]
        assert known or not here
        server.save(registry={"test/web:E": SECOND})
        run = server.make("deploy", "E")
        assert ("test/web:E has moved" in run.said) == known, run.said
        if here:
            break


def test_a_line_of_images_that_cannot_be_understood_is_one_line(pulled):
    (pulled.directory / ".images").write_text(f"test/web:E {FIRST}\ntest/web:F sha256:12\n")
    run = pulled.make("deploy", "E")
    assert (run.code, pulled.runs) == (1, {"C"})
    assert "make deploy: .images, line 2, is not `NAME:TAG sha256:…`: correct or delete it." in run.said


def test_a_push_is_refused_without_a_registry_and_with_an_uncommitted_tree(server, monkeypatch):
    server.save(uncommitted=" M services/web/src/web/app.py\n")
    run = server.make("push")
    assert run.code == 1
    assert run.said == (
        "make push: services/web/src/web/app.py is not committed: commit or stash first, then run it again.\n"
    )
    run = server.make("push", prefix="")
    assert run.code == 1
    assert "make push: IMAGE_PREFIX is not set: name the registry in .env" in run.said


def test_a_push_moves_no_tag_and_records_what_is_there(server):
    server.save(registry={"test/web:E": FIRST, "test/proxy:E": SECOND})
    run = server.make("push", version="E")
    assert run.code == 0, run.said
    assert "E is in the registry. To deploy it, on a server: make deploy TAG=E" in run.said
    assert server.noted == f"test/proxy:E {SECOND}\ntest/web:E {FIRST}\n"
    server.save(registry={"test/web:E": SECOND, "test/proxy:E": SECOND})
    run = server.make("push", version="E")
    assert run.code == 1
    assert f"test/web:E has moved: it was {FIRST}, and is {SECOND}" in run.said


def test_a_service_that_is_newer_than_the_release_before_stays(server):
    server.add_service("billing")
    server.save(runs=dict.fromkeys(("web-a", "web-b", "billing-a", "billing-b"), "B"))
    server.save(images={"test/billing:B": "B", "test/web:A": "A"})
    run = server.make("rollback")
    assert (run.code, server.named) == (0, ("A", "B")), run.said
    assert server.state["runs"] == {"web-a": "A", "web-b": "A", "billing-a": "B", "billing-b": "B"}
    assert "billing-a stays" in run.said


def test_a_replica_that_cannot_be_put_back_is_named(server):
    server.save(broken=["web-b C", "web-b B"])
    run = server.make("deploy", "C")
    assert (run.code, server.state["runs"], server.named) == (1, {"web-a": "B"}, ("B", "A")), run.said
    assert "Release B serves" not in run.said
    assert re.search(r"web-b of release B did not get ready.*Now: web-a: B; web-b: down", run.said), run.said
    server.save(broken=[])
    run = server.make("rollback")
    assert (run.code, server.state["runs"], server.named) == (0, {"web-a": "B", "web-b": "B"}, ("B", "A")), run.said


def test_the_ways_out_are_there_before_any_job_or_replica_of_the_release_or_nothing_is_touched(server):
    shutil.copy(ROOT / "compose.yaml", server.directory)
    (server.directory / "compose").mkdir()
    (server.directory / "docker").mkdir()
    server.add_service("shop", 'egress = ["api.example.com:443"]')
    assert "run make egress" in server.make("deploy", "C").said
    server.make("egress")
    server.save(broken=["shop-egress"], images=[f"test/{name}:C" for name in ("web", "shop")])
    failed = server.make("deploy", "C")
    assert failed.said.endswith("the way out does not start; nothing else was changed: container is unhealthy.\n")
    assert (server.runs, server.state["migrated"]) == ({"B"}, [])
    server.save(broken=[])
    done = server.make("deploy", "C")
    assert re.search(r"(?s)  egress .+  migrate .+  shop-a ", done.said), done.said


def test_a_first_deploy_needs_nothing_that_runs(server):
    server.save(runs={})
    run = server.make("deploy", "B")
    assert (run.code, server.runs, server.named) == (0, {"B"}, ("B", "A")), run.said
    assert "deploy B (now: nothing)" in run.said


def test_a_first_deploy_that_fails_says_that_nothing_serves(server):
    server.save(runs={}, images={"test/web:C": "C"}, broken=["web-a C"])
    run = server.make("deploy", "C")
    assert (run.code, server.runs, server.named) == (1, set(), ("B", "A")), run.said
    assert "Nothing serves; mend it and deploy again" in run.said


def test_a_tag_that_no_image_can_have_is_one_line(server):
    run = server.make("deploy", "one two")
    assert (run.code, server.runs, server.named) == (1, {"B"}, ("B", "A"))
    assert "TAG is not a valid image tag: one two" in run.said


DOCKER = """\
#!/bin/sh
echo "$*" >> "$0.called"
case "$*" in
    version*|"compose version"*) echo 2.40 ;;
    *"--format json"*) echo '{"services": {"db": {"image": "postgres:18-trixie"}}}' ;;
    *--images*) echo "test/web:B" ;;
    "image inspect test/web:B") [ ! -e "$0.pruned" ] ;;
    pull*) false ;;
esac
"""


def up(server: Server) -> tuple[subprocess.CompletedProcess, str]:
    """`make up`, and what it told docker."""
    docker = server.directory / "bin/docker"
    docker.parent.mkdir(exist_ok=True)
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    for name in ("Makefile", "docker", "compose"):
        (server.directory / name).symlink_to(ROOT / name)
    environment = os.environ | {"PATH": f"{docker.parent}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(["make", "up"], cwd=server.directory, env=environment, capture_output=True, text=True)
    return run, docker.with_name("docker.called").read_text()


def test_a_failed_build_is_told_by_what_its_step_said_or_by_the_last_line():
    step = "#7 [build 4/4] RUN uv sync\n#8 0.1 fine\n#7 0.2 error: no\n#7 0.2   cause: 401\n#7 ERROR: process failed\n"
    last = "target web-a: failed to solve: process failed\n"
    said = f"{step}------\n > RUN uv sync:\n0.2   cause: 401\n{last}"
    assert build_problem(said) == "error: no\n    cause: 401"
    assert build_problem(said, 1) == "  cause: 401"
    assert build_problem("\nmake sure SSH_AUTH_SOCK is set\n\n") == "make sure SSH_AUTH_SOCK is set"


def test_make_up_builds_nothing_under_the_tag_that_env_names(server):
    run, called = up(server)
    assert run.returncode == 0, run.stderr
    assert "compose up --detach --wait" in called
    assert "build" not in called
    assert "B, which .env names" in run.stdout


def test_make_up_says_that_the_image_is_missing_and_what_to_do(server):
    (server.directory / "bin").mkdir()
    (server.directory / "bin/docker.pruned").touch()
    run, called = up(server)
    assert run.returncode != 0
    assert "there is no image test/web:B here, and it can't be pulled: `make deploy` builds" in run.stderr
    assert "compose up" not in called


def test_make_up_builds_where_env_names_no_release(server):
    server.env.write_text("SITE_ADDRESS=localhost\n")
    run, called = up(server)
    assert run.returncode == 0, run.stderr
    assert "compose up --build --detach --wait" in called or "compose up --detach --wait --build" in called
