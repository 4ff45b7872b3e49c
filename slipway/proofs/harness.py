"""What the container tests share: a stack under a unique name, and waiting for a state."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx

from slipway.commands import ROOT as ROOT
from slipway.commands.shared import git, inventory
from slipway.commands.shared.inventory import Service as Service

SERVICES = inventory.all()
# A developer's settings must not leak into a test's stack, nor what `make test` passes to a nested make.
OURS = (
    "BACKUP_",
    "BUILT",
    "COMPOSE_",
    "DATABASE_",
    "DEV_",
    "EDGE_",
    "EXTRAS",
    "HTTP_PORT",
    "HTTPS_PORT",
    "IMAGE_PREFIX",
    "MAKE",
    "MFLAGS",
    "OTEL_",
    "POSTGRES_MAJOR",
    "PROXY",
    "PUBLISH_ADDRESS",
    "REVISION",
    "SENTRY_",
    "SERVER",
    "SITE_ADDRESS",
    "SOURCE",
    "TAG",
    "VERSION",
)

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SOURCE = "https://git.example/team/shop"  # of images that a test builds by itself
PROXIES = ("caddy", "nginx")  # the first is the default
AUTHORITIES = {
    "caddy": "/data/caddy/pki/authorities/local/root.crt",
    "nginx": "/certificates/local/root.crt",
}
TIMEOUT = 900  # seconds of one command, a cold image build included


class Stack:
    """A compose project of one checkout; `settings` are environment variables."""

    prefix: tuple[str, ...] = ()  # prefix of every command: who runs it, and where

    def __init__(self, directory: Path, project: str, **settings: Any) -> None:
        self.directory, self.project = directory, project
        outside = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        outside["PATH"] += f"{os.pathsep}{ROOT}/.cache/uv/bin"  # this checkout's uv, so that no other fetches one
        outside["UV_COMPILE_BYTECODE"] = "0"  # for an environment that is used once
        # Its images have unique names, too: another run's build must not replace one.
        own = {"COMPOSE_PROJECT_NAME": project, "IMAGE_PREFIX": f"slipway-test/{project}-", **settings}
        self.environment = outside | {name: str(value) for name, value in own.items()}

    def run(self, *command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess:
        options = {"env": self.environment, "capture_output": True, "text": True, "timeout": TIMEOUT, **options}
        run = subprocess.run([*self.prefix, *command], cwd=self.directory, check=False, **options)
        if check and run.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {run.returncode}\n{run.stdout}\n{run.stderr}")
        return run

    def make(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess:
        return self.run("make", *arguments, **options)

    def compose(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess:
        return self.run("docker", "compose", *arguments, **options)

    def containers(self) -> list[dict]:
        """`docker inspect` of all the project's containers, stopped ones too."""
        ids = self._list("ps", "--all")
        return json.loads(self.run("docker", "inspect", *ids).stdout) if ids else []

    def container(self, service: str) -> dict:
        return next(c for c in self.containers() if c["Config"]["Labels"]["com.docker.compose.service"] == service)

    def sql(self, statement: str, database: str = "web") -> str:
        """Runs it as the superuser, inside the database's container."""
        run = 'PGPASSWORD=$(cat /run/secrets/postgres_password) exec psql -XqAt -U postgres -h 127.0.0.1 "$@"'
        return self.compose("exec", "-T", "db", "sh", "-c", run, "psql", "-d", database, "-c", statement).stdout.strip()

    def sql_as_app(self, statement: str, name: str, database: str | None = None) -> subprocess.CompletedProcess:
        """Runs it as a service's role, over the network and with its password, as an attacker inside the app would."""
        password = (self.directory / f"secrets/{name}_password").read_text().strip()
        psql = ["psql", "-XqAt", "-h", "127.0.0.1", "-U", name, "-d", database or name, "-c", statement]
        return self.compose("exec", "-T", "--env", f"PGPASSWORD={password}", "db", *psql, check=False)

    def postgres_answers(self) -> bool:
        return self.compose("exec", "-T", "db", "pg_isready", "-q", "-h", "127.0.0.1", check=False).returncode == 0

    def networks(self) -> list[str]:
        return self.run("docker", "network", "ls", "--format", "{{.Name}}", "--filter", self._label).stdout.split()

    def destroy(self) -> None:
        """Removes everything that the project created, found by label, so that it works in any state."""
        kept = self.environment
        self.environment = {**kept, "TEARING_DOWN": "1"}  # reported to the gate of chassis_testing
        try:
            if ids := self._list("ps", "--all"):
                self.run("docker", "rm", "--force", "--volumes", *ids)
            if images := self._images():
                self.run("docker", "image", "rm", "--force", *images)
            for kind in ("volume", "network"):
                if names := self._list(kind, "ls"):
                    self.run("docker", kind, "rm", *names)
        finally:
            self.environment = kept

    @property
    def proxy(self) -> str:
        return self.environment.get("PROXY", "caddy")

    def authority(self) -> str:
        """The certificate of the proxy's own authority."""
        return self.compose("exec", "-T", "proxy", "cat", AUTHORITIES[self.proxy]).stdout

    def trust(self) -> ssl.SSLContext:
        """Trusts only the proxy's own authority."""
        return ssl.create_default_context(cadata=self.authority())

    def reload(self) -> None:
        script = "/opt/slipway/proxy/nginx.sh"
        how = (script, "reload") if self.proxy == "nginx" else ("caddy", "reload", "--config", "/etc/caddy/Caddyfile")
        self.compose("exec", "-T", "proxy", *how)

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"https://localhost:{self.environment['HTTPS_PORT']}",
            verify=self.trust(),
            trust_env=False,
            timeout=20,
            follow_redirects=True,
        )

    def image(self, tag: str = "local") -> str:
        """The name of the service's image."""
        return f"{self.environment['IMAGE_PREFIX']}web:{tag}"

    def _images(self) -> list[str]:
        pattern = f"{self.environment['IMAGE_PREFIX']}*"
        return self._docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", pattern)

    @property
    def _label(self) -> str:
        return f"label=com.docker.compose.project={self.project}"

    def _list(self, *command: str) -> list[str]:
        return self._docker(*command, "--quiet", "--filter", self._label)

    def _docker(self, *command: str) -> list[str]:
        """What the engine lists; nothing if there is no engine."""
        if self.environment.get("DOCKER") == "no" or not shutil.which("docker"):
            return []
        return self.run("docker", *command, check=False).stdout.split()


AnyStack = TypeVar("AnyStack", bound=Stack)


@contextmanager
def started(stack: AnyStack) -> Iterator[AnyStack]:
    """The stack after `make init` and `docker compose up`; removed afterwards, whatever happens."""
    try:
        stack.make("init")
        stack.compose("up", "--build", "--detach", "--wait")
        yield stack
    finally:
        stack.destroy()


@contextmanager
def edited(stack: Stack, former: str, new: str) -> Iterator[None]:
    """Replaces one text by another in the proxy's configuration; afterwards restores it and loads it in a moment,
    whatever that costs: `make proxy-reload` would drop nothing."""
    files = (path for path in stack.directory.glob(f"docker/proxy/{stack.proxy}/**/*") if path.is_file())
    path = next(each for each in files if former in each.read_text())
    kept = path.read_text()
    path.write_text(kept.replace(former, new))
    try:
        yield
    finally:
        path.write_text(kept)
        stack.reload()


class Developed(NamedTuple):
    """`make dev`, running: its stack, address, port, process, and its output so far."""

    stack: Stack
    url: str
    port: int
    process: subprocess.Popen

    @property
    def log(self) -> str:
        return (self.stack.directory / "dev.log").read_text()

    def get(self, path: str = "/", **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False, timeout=20, **options)

    def answers(self, status: int = 200) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"make dev has ended:\n{self.log}")
        return self.get("/health/live").status_code == status

    def news(self) -> dict[str, Any]:
        """The first message that an open page receives."""
        with httpx.stream("GET", f"{self.url}/_dev/events", trust_env=False, timeout=20) as stream:
            line = next(line for line in stream.iter_lines() if line.startswith("data: "))
        return json.loads(line.removeprefix("data: "))

    def stop(self) -> None:
        """What Ctrl-C does: an interrupt to every process of the terminal's job."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
            self.process.wait(60)


@contextmanager
def developing(
    directory: Path, native: bool, status: int | None = 200, service: str = "", **settings: Any
) -> Iterator[Developed]:
    """`make dev` in a checkout, or of one service, once it answers with this status; all removed afterwards."""
    port = free_port()
    settings[f"DEV_PORT_{service.upper()}" if service else "DEV_PORT"] = port
    if native:
        settings["DOCKER"] = "no"
    stack = Stack(directory, unique("dev"), **settings)
    try:
        with make_dev(stack, port, status, service) as developed:
            yield developed
    finally:
        stack.destroy()


@contextmanager
def make_dev(stack: Stack, port: int, status: int | None = 200, service: str = "") -> Iterator[Developed]:
    """`make dev` with the stack's environment, which says this port; stopped afterwards, as Ctrl-C does.

    A service without a port has no status, and is not waited for.
    """
    command = [*stack.prefix, "make", "dev", *([f"s={service}"] if service else [])]
    with (stack.directory / "dev.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=stack.directory, env=stack.environment, stdout=log, stderr=log, start_new_session=True
        )
    developed = Developed(stack, f"http://localhost:{port}", port, process)
    try:
        if status:
            wait_until("the development server", partial(developed.answers, status), 240)
        yield developed
    finally:
        developed.stop()


@contextmanager
def built(checkout: Path, service: Service, **choices: str) -> Iterator[str]:
    """A service's image under a unique name, built as compose builds it, and removed afterwards. `choices` are the
    Dockerfile's arguments."""
    stack = Stack(checkout, unique("image"), SITE_ADDRESS="localhost")
    arguments = {"VERSION": "1.2.3", "REVISION": "0123456789abcdef", "SOURCE": SOURCE, **choices}
    options = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    try:
        stack.compose("build", "--quiet", *options, [*service.replicas, service.name][0])
        yield f"{stack.environment['IMAGE_PREFIX']}{service.name}:local"
    finally:
        stack.destroy()


def to_host(host: str) -> dict[str, Any]:
    """httpx's options for a request to that host, whatever address the name has; none for the address's own."""
    return {"headers": {"Host": host}, "extensions": {"sni_hostname": host}} if host else {}


def ports() -> dict[str, Any]:
    """Settings for free ports, published on the loopback only."""
    return {"HTTP_PORT": free_port(), "HTTPS_PORT": free_port(), "PUBLISH_ADDRESS": "127.0.0.1"}


def wait_until(what: str, state: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Returns the state's first true value; fails, naming `what`, if there is none in time."""
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            if value := state():
                return value
        except (httpx.HTTPError, json.JSONDecodeError, OSError, AssertionError, subprocess.SubprocessError) as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {what} ({last!r})")


def copy_tree(directory: Path) -> Path:
    """Copies the tree as git sees it, edits included: what a fresh clone of it would be, and what npm built in it."""
    for name in git.files():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, directory / name)
    for built in (*ROOT.glob("services/*/ui/dist"), *ROOT.glob("services/*/src/*/static/ui")):
        shutil.copytree(built, directory / built.relative_to(ROOT), dirs_exist_ok=True)
    return directory


def with_probe(tree: Path) -> Path:
    """The tree with the routes of slipway/proofs/probe in each web service, and a migration for their table."""
    for service in SERVICES:
        if service.kind == "web" and service.database:
            home = tree / "services" / service.name
            package, versions = home / "src" / service.name, home / "migrations/versions"
            shutil.copy(ROOT / "slipway/proofs/probe/probe.py", package)
            with (package / "app.py").open("a") as app:
                app.write(
                    f"\n\nimport {service.name}.probe\n\ncreate_app = {service.name}.probe.added_to(create_app)\n"
                )
            migration = (ROOT / "slipway/proofs/probe/migration.py").read_text()
            (versions / "probe.py").write_text(migration.replace("None  # NEWEST", repr(newest(versions))))
    return tree


def newest(versions: Path) -> str | None:
    """The revision that no other follows; None if there is no migration."""
    texts = [path.read_text() for path in versions.glob("*.py")]
    assigned = r"""^{}\b[^=\n]*=\s*["']([^"']+)"""
    known, older = (
        {name for text in texts for name in re.findall(assigned.format(which), text, re.MULTILINE)}
        for which in ("revision", "down_revision")
    )
    return next(iter(known - older), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def unique(prefix: str) -> str:
    return f"slipway-test-{prefix}-{secrets.token_hex(3)}"


def path_without(directory: Path, *names: str) -> str:
    """A PATH with everything but these programs; as root, with what every user may run."""
    directory.mkdir(exist_ok=True)
    for folder in reversed(os.environ["PATH"].split(os.pathsep)):
        place = Path(folder).resolve()
        if not place.is_dir() or (os.geteuid() == 0 and not all(map(is_open, (place, *place.parents)))):
            continue
        for program in place.glob("*"):
            if program.name not in names and os.access(program, os.X_OK) and program.is_file():
                (directory / program.name).unlink(missing_ok=True)
                (directory / program.name).symlink_to(program)
    return str(directory)


def is_open(folder: Path) -> bool:
    return bool(folder.stat().st_mode & 0o001)


def chromium() -> str | None:
    """The browser for slipway/proofs/browser: the program that $CHROMIUM names, else the first on the PATH."""
    names = (os.environ.get("CHROMIUM", ""), *CHROMIUMS)
    return next(filter(None, map(shutil.which, names)), None)
