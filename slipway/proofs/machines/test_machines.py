"""`make test`, `make dev` and `make doctor` work on every machine that people have, in a fresh clone on each.

None of them has an engine, a git identity, or the files in the home of the developer who runs this.
"""

import os
import platform
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from slipway.commands import get_uv
from slipway.proofs import wheels
from slipway.proofs.forks.fork import Fork, complaint
from slipway.proofs.harness import OURS, ROOT, Developed, free_port, make_dev, path_without, wait_until

SHORT = ("s=web", "args=-k health")
NOBODY = 65534
LEFT_OUT = (*OURS, "DOCKER", "LANG", "LC_", "PYTEST_", "PYTHON", "REQUIRE", "VIRTUAL_ENV", "XDG_")
NO_IDENTITY = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "user.useConfigOnly",  # nor one that is made up from the names of user and host
    "GIT_CONFIG_VALUE_0": "true",
}
NO_ENGINE = """\
echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?" >&2
exit 1
"""
NO_COMPOSE = """\
[ "$1" = compose ] || exec echo 20.10.24
echo "docker: 'compose' is not a docker command." >&2
exit 1
"""
# Put in a Python's site-packages: Debian's Python can't use these modules without further packages.
NO_PIP = """\
import sys

class Finder:
    def find_spec(name, *rest):
        if name in ("ensurepip", "pip", "venv"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Finder)
"""
NO_LINUX = """\
import os, select, socket

del os.eventfd, os.sched_getaffinity, select.epoll
pair = socket.socketpair

def socketpair(family=None, type=socket.SOCK_STREAM, proto=0):
    if type == socket.SOCK_SEQPACKET:
        raise OSError(93, "Protocol not supported")
    return pair(family, type, proto)

socket.socketpair = socketpair
"""
GET = """\
import sys, urllib.request
with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=20) as answer:
    print(answer.status, answer.headers["content-type"])
"""


class Machine(Fork):
    """A fresh clone and what surrounds it."""

    def __init__(self, home: Path, name: str, programs: str, resources: ExitStack) -> None:
        self.home, self.resources = home, resources
        (home / name).mkdir()
        super().__init__(home / name)
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(LEFT_OUT)}
        self.environment |= NO_IDENTITY | {"HOME": str(home), "TMPDIR": str(home), "PATH": programs}
        self.environment["UV_COMPILE_BYTECODE"] = "0"  # of an environment that is used once
        self.environment["UV_CACHE_DIR"] = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache/uv")

    def program(self, name: str, text: bytes | str) -> None:
        """Puts a program, or the lines of a shell script, first on the PATH."""
        path = self.home / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else f"#!/bin/sh\n{text}".encode())
        path.chmod(0o755)
        if not self.environment["PATH"].startswith(str(path.parent)):
            self.environment["PATH"] = f"{path.parent}:{self.environment['PATH']}"

    def client(self, host: str) -> None:
        """The real client, which is told where its engine is."""
        self.program("docker", f'exec {shutil.which("docker")} "$@"\n')
        self.environment["DOCKER_HOST"] = host

    def begin(self, *command: str) -> subprocess.Popen:
        """Enters a context that lasts until the test ends."""
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = self.resources.enter_context(
            subprocess.Popen([*self.prefix, *command], cwd=self.home, env=self.environment, **silent)
        )
        self.resources.callback(process.kill)
        return process

    def without_network(self) -> None:
        """From here on the only network is the machine's own loopback."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        holder = self.begin("unshare", "--net", *(["--map-root-user"] if user else []), "sleep", "infinity")
        ours = Path("/proc/self/ns/net").readlink()
        wait_until("a network of its own", lambda: Path(f"/proc/{holder.pid}/ns/net").readlink() != ours)
        self.prefix = ("nsenter", *user, "--net", "--target", str(holder.pid))
        self.run("ip", "link", "set", "lo", "up")

    def passed(self, *words: str) -> int:
        """How many tests of `make test` passed; fails if one did not, or was skipped."""
        run = self.make("test", *words, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
        assert "skipped" not in run.stdout
        return total("passed", run.stdout)

    @contextmanager
    def developing(self, **settings: object) -> Iterator[Developed]:
        port = int(settings.setdefault("DEV_PORT", free_port()))
        self.environment |= {key: str(value) for key, value in settings.items()}
        with make_dev(self, port, status=None) as dev:
            yield dev

    def shows_its_page(self, dev: Developed) -> bool:
        if dev.process.poll() is not None:
            raise RuntimeError(f"make dev has ended:\n{dev.log}")
        return self.run("python3", "-c", GET, dev.url, check=False).stdout.startswith("200 text/html")

    def doctor(self) -> str:
        """What it prints, whatever exists and whatever is missing."""
        run = self.make("doctor", check=False)
        lines = run.stdout.splitlines()
        assert "Traceback" not in run.stderr
        assert {line.split()[0] for line in lines} <= {"ok", "hint", "BAD"}
        assert (run.returncode != 0) == any(line.startswith("BAD") for line in lines), run.stdout
        return run.stdout


def nothing(machine: Machine) -> None:
    pass


def client_without_an_engine(machine: Machine) -> None:
    machine.program("docker", NO_ENGINE)


def client_without_compose(machine: Machine) -> None:
    machine.program("docker", NO_COMPOSE)


def docker_host_nowhere(machine: Machine) -> None:
    machine.client(f"tcp://127.0.0.1:{free_port()}")


def ordinary_user(machine: Machine) -> None:
    if os.geteuid() == 0:
        del machine.environment["UV_CACHE_DIR"]  # root's
        for path in (machine.home, *machine.home.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        machine.prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


def home_that_cant_be_written(machine: Machine) -> None:
    ordinary_user(machine)
    machine.environment["HOME"] = "/nonexistent"
    machine.environment.pop("UV_CACHE_DIR", None)


def archive(machine: Machine) -> None:
    (machine.home / "archive").mkdir()
    machine.git("archive", "--output", "../tree.tar", "HEAD")
    machine.run("tar", "-xf", "../tree.tar", "-C", "../archive")
    shutil.rmtree(machine.directory)
    machine.directory = machine.home / "archive"


def worktree(machine: Machine) -> None:
    machine.git("worktree", "add", "--quiet", "../worktree")
    machine.directory = machine.home / "worktree"


def plain_c(machine: Machine) -> None:
    machine.environment |= {"LANG": "C", "LC_ALL": "C"}


def no_venv(machine: Machine) -> None:
    """A Python with neither pip nor a way to create environments, and an index on this machine that has only uv."""
    machine.run("python3", "-m", "venv", "--without-pip", "../python")
    lack(machine.home / "python", NO_PIP)
    machine.environment["PATH"] = f"{machine.home}/python/bin:{machine.environment['PATH']}"
    assert machine.run("python3", "-m", "venv", "../other", check=False).returncode == 1
    tags = ".".join(f"{libc}_{platform.machine()}" for libc in ("manylinux_2_17", "musllinux_1_1"))
    entry = wheels.wheel(machine.home, get_uv.VERSION, tags, uv())
    machine.environment["PIP_INDEX_URL"] = machine.resources.enter_context(wheels.served(machine.home, entry))


def no_network_once_installed(machine: Machine) -> None:
    machine.make(".venv/installed")
    machine.without_network()


def what_macos_lacks(machine: Machine) -> None:
    machine.make(".venv/installed")
    lack(machine.directory / ".venv", NO_LINUX)
    machine.environment["RELOAD"] = "poll"  # no inotify either


def lack(environment: Path, program: str) -> None:
    """Makes this Python run the program first at every start."""
    (packages,) = environment.glob("lib/python3*/site-packages")
    (packages / "lacking.py").write_text(program)
    (packages / "lacking.pth").write_text("import lacking")


def uv() -> bytes:
    """The uv that created this checkout's environment."""
    return (ROOT / subprocess.check_output(["make", "print-uv"], cwd=ROOT, text=True).strip()).read_bytes()


class Case(NamedTuple):
    prepare: Callable[[Machine], None] = nothing
    said: str = "Docker is not installed"  # by `make dev` and `make doctor`
    name: str = "clone"
    whole: bool = False  # whether to run all of `make test`; in the other cases a part is enough
    has_uv: bool = True


MACHINES = {
    "no docker": Case(whole=True, has_uv=False),
    "a client without an engine": Case(client_without_an_engine, "no container engine answers", whole=True),
    "a client without compose": Case(client_without_compose, "Docker Compose is missing: install"),
    "DOCKER_HOST that points nowhere": Case(docker_host_nowhere, "no container engine answers"),
    "an ordinary user": Case(ordinary_user, has_uv=False),
    "a path with a space and an umlaut": Case(name="my größter shop"),
    "a source archive without .git": Case(archive),
    "a git worktree": Case(worktree),
    "LANG=C": Case(plain_c),
    "a home that can't be written": Case(home_that_cant_be_written, has_uv=False),
    "what macOS lacks": Case(what_macos_lacks),
    "no python3-venv": Case(no_venv, has_uv=False),
    "no network once installed": Case(no_network_once_installed),
}
NEEDS_A_CLIENT = {"DOCKER_HOST that points nowhere": pytest.mark.containers}


@pytest.fixture(scope="module")
def programs() -> Iterator[str]:
    """The PATH of all of them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield path_without(Path(folder), "docker", "uv", "uvx")


@contextmanager
def made(case: Case, programs: str) -> Iterator[Machine]:
    """Outside of pytest's own folder, which an ordinary user can't enter."""
    with tempfile.TemporaryDirectory(prefix="slipway-test-") as folder, ExitStack() as resources:
        Path(folder).chmod(0o755)
        machine = Machine(Path(folder), case.name, programs, resources)
        if case.has_uv:
            machine.program("uv", uv())
        case.prepare(machine)
        yield machine


@pytest.fixture(scope="module")
def expected(programs: str) -> dict[bool, int]:
    """How many tests `make test` has, and the short selection."""
    with made(Case(), programs) as plain:
        short = plain.make("test", "s=web", "args=-k health --collect-only -q").stdout
        whole = plain.make("test", "args=--collect-only -q").stdout
    return {True: total("tests collected", whole), False: total("tests collected", short)}


def total(what: str, text: str) -> int:
    return sum(int(number) for number in re.findall(rf"(\d+)(?:/\d+)? {what}", text))


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name, marks=NEEDS_A_CLIENT.get(name, ())) for name, case in MACHINES.items()]
)
def test_the_first_commands_work_on(case: Case, programs: str, expected: dict[bool, int]):
    with made(case, programs) as machine:
        assert machine.passed(*(() if case.whole else SHORT)) == expected[case.whole] > 0
        with machine.developing() as dev:
            wait_until("the page", lambda: machine.shows_its_page(dev), 120)
            assert f"Running natively, on an embedded Postgres: {case.said}" in dev.log
        assert case.said in machine.doctor()


@pytest.mark.containers
def test_an_engine_that_never_answers_costs_ten_seconds_at_most_and_make_test_none(
    programs: str, expected: dict[bool, int]
):
    with made(Case(), programs) as machine, socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(machine.home / "engine"))
        engine.listen()
        engine.setblocking(False)
        machine.client(f"unix://{machine.home}/engine")
        assert machine.passed(*SHORT) == expected[False]
        with pytest.raises(BlockingIOError):
            engine.accept()  # nothing has asked it
        with machine.developing() as dev:
            wait_until("a word", lambda: "Waiting for the container engine to answer" in dev.log, 8)
            wait_until("going on without it", lambda: "Running natively" in dev.log, 7)
            wait_until("the page", lambda: machine.shows_its_page(dev), 30)
        assert "the container engine did not answer within" in machine.doctor()


def test_a_taken_port_is_one_line_with_the_program_that_holds_it_and_a_way_out(programs: str):
    with made(Case(no_network_once_installed), programs) as machine:  # where all ports are this test's
        holders = {port: machine.begin("python3", "-m", "http.server", port) for port in ("8000", "5432")}
        for port in holders:
            here = ("python3", "-c", GET, f"http://127.0.0.1:{port}")
            wait_until("what takes it", partial(machine.run, *here))
        holder = rf"python\S* \(process {holders['8000'].pid}\)"
        line = complaint(machine.make("dev", check=False))
        assert re.search(rf"port 8000: address already in use by {holder}", line)
        assert "make dev DEV_PORT=8001" in line
        assert re.search(rf"port 8000 \(DEV_PORT\) is taken by {holder}", machine.doctor())
        with machine.developing(DEV_PORT=8001) as dev:
            wait_until("the page", lambda: machine.shows_its_page(dev), 30)
