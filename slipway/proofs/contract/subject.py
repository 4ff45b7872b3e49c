"""The image under test: its metadata, and containers of it beside their own Postgres.

Everything is created with one label and removed by it, on failure and on Ctrl-C as well.
"""

import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import httpx

from slipway.proofs.contract import contents
from slipway.proofs.contract.container import (
    BESIDE,
    START,
    BadInput,
    Container,
    DockerError,
    NotServing,
    Stop,
    docker,
    last_line,
    until,
)

REGISTRY = os.environ.get("REGISTRY", "")
POSTGRES = f"{REGISTRY}postgres:18-trixie"
HELPER = f"{REGISTRY}python:3.14-slim-trixie"
READINESS = "/health/ready"  # unless HEALTH names another, and if this answers

KILLED = 10.0  # seconds that `docker stop` waits before it kills
BUSY = 40.0  # seconds that an orchestrator gives a busy container
COMMAND = 15.0  # seconds for a command that replaces the default
CROWD = 20  # requests in flight, if SLOW names a slow route


@dataclass(frozen=True)
class Wanted:
    """What `make contract` was given."""

    image: str
    port: int | None = None
    health: str = ""
    slow: str = ""
    migrate: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        text = {name: given.get(name, "").strip() for name in ("IMAGE", "PORT", "HEALTH", "SLOW", "MIGRATE", "ENV")}
        if not text["IMAGE"]:
            raise BadInput("IMAGE is not set: make contract IMAGE=any/image:tag")
        if text["PORT"] and not (text["PORT"].isdecimal() and 0 < int(text["PORT"]) < 65536):
            raise BadInput(f"PORT is {text['PORT']!r}: it must be a number from 1 to 65535")
        for name in ("HEALTH", "SLOW"):
            if text[name] and not text[name].startswith("/"):
                raise BadInput(f"{name} is {text[name]!r}: it must be a path, such as /{text[name]}")
        return cls(
            text["IMAGE"],
            int(text["PORT"]) if text["PORT"] else None,
            text["HEALTH"],
            text["SLOW"],
            tuple(words("MIGRATE", text["MIGRATE"])),
            variables(text["ENV"]),
        )


def variables(text: str) -> dict[str, str]:
    """`A=b C="d e"` as a mapping."""
    pairs = [each.partition("=") for each in words("ENV", text)]
    if wrong := [name for name, equals, _ in pairs if not (name and equals)]:
        raise BadInput(f'ENV holds {wrong[0]!r}, which sets nothing: ENV="NAME=value OTHER=value"')
    return {name: value for name, _, value in pairs}


def words(name: str, text: str) -> list[str]:
    """The text as a shell would split it."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BadInput(f"{name} can't be read: {error}") from None


@dataclass(frozen=True)
class IdleStop(Stop):
    readiness: tuple[int | None, ...]  # the answers while it stopped; None without an answer


@dataclass(frozen=True)
class BusyStop(Stop):
    answered: int
    sent: int


class Subject:
    """The image, and the containers, network and database that are needed to judge it."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted, self.image, self.health = wanted, wanted.image, wanted.health
        self.name = f"slipway-contract-{secrets.token_hex(4)}"
        self.home: int | None = None  # the status of /; any will do until it is known
        self.label = f"slipway.contract={self.name}"
        self.http = httpx.Client(
            trust_env=False,
            timeout=10,
            headers={"Connection": "close"},
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=0),
        )

    def __enter__(self) -> Self:
        try:
            self.open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def open(self) -> None:
        """Raises BadInput unless the image is there and a container of it serves."""
        try:
            assert self.inspected  # before anything is made for it
            docker("network", "create", "--label", self.label, self.name)
            self.start_postgres()
            self.migrate()
            self.app = self.start()
        except NotServing as error:
            raise BadInput(f"{self.image} {error}") from None
        except DockerError as error:
            raise BadInput(str(error)) from None
        self.home = self.app.status("/")
        self.health = self.health or self.find_readiness()
        self.check_slow()

    def close(self) -> None:
        """Removes all that carries the label; a second Ctrl-C does not stop it halfway."""
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
        self.http.close()
        until(self.nothing_is_left, 20, pause=0.2)
        if main:
            signal.signal(signal.SIGINT, before)

    def nothing_is_left(self) -> bool:
        """Removes what exists; an interrupted `docker run` may still create a container late."""
        mine = ("--quiet", "--filter", f"label={self.label}")
        if containers := docker("ps", "--all", *mine, check=False).stdout.split():
            docker("rm", "--force", "--volumes", *containers, check=False)
        if networks := docker("network", "ls", *mine, check=False).stdout.split():
            docker("network", "rm", *networks, check=False)
        return not containers and not networks

    # What the image says of itself

    @cached_property
    def inspected(self) -> dict[str, Any]:
        run = docker("image", "inspect", self.image, check=False)
        if run.returncode and "no such image" in run.stderr.lower():
            raise BadInput(f"there is no image {self.image} here: build it, or run `docker pull {self.image}`")
        if run.returncode:
            raise BadInput(f"docker can't inspect {self.image}: {last_line(run.stderr)}")
        return json.loads(run.stdout)[0]

    @property
    def config(self) -> dict[str, Any]:
        return self.inspected["Config"]

    @property
    def labels(self) -> dict[str, str]:
        return self.config.get("Labels") or {}

    @property
    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.config.get("Env") or [])

    @cached_property
    def history(self) -> list[str]:
        """The commands that built the image."""
        return docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", self.image).stdout.splitlines()

    @property
    def files(self) -> list[contents.File]:
        return self.exported[0]

    @property
    def passwd(self) -> str:
        return self.exported[1]

    @cached_property
    def exported(self) -> tuple[list[contents.File], str]:
        # Never started, but docker requires a command.
        return contents.files(docker("create", "--label", self.label, self.image, "-").stdout.strip())

    @cached_property
    def secrets_in_layers(self) -> dict[str, str]:
        return contents.secrets_in_layers(self.image)

    @cached_property
    def port(self) -> int:
        """PORT, or the port that the image exposes, or 8000."""
        exposed = [int(port.partition("/")[0]) for port in self.config.get("ExposedPorts") or () if "udp" not in port]
        return self.wanted.port or (exposed[0] if len(exposed) == 1 else 8000)

    @cached_property
    def health_check(self) -> list[str] | None:
        """The health check as a command line; None if the image has none."""
        kind, *command = (self.config.get("Healthcheck") or {}).get("Test") or ["NONE"]
        if kind == "CMD-SHELL":
            return [*(self.config.get("Shell") or ["/bin/sh", "-c"]), *command]
        return command if kind == "CMD" else None

    @property
    def probe(self) -> str:
        """Where to ask whether it serves."""
        return self.health or "/"

    @property
    def well(self) -> int | None:
        """The probe's status while it serves."""
        return 200 if self.health else self.home

    @property
    def stop_limit(self) -> float:
        """Seconds that an idle stop may take: one more than the drain, if ENV sets a drain."""
        drain = self.wanted.env.get("DRAIN_DELAY", "")
        if not re.fullmatch(r"\d+(\.\d+)?", drain):
            return KILLED
        # A second of CPU, which on a busy machine takes longer and is not the image's fault.
        return float(drain) + max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))

    # What stands beside it

    def start_postgres(self) -> None:
        """Starts Postgres whether or not the image needs one, since there is no way to tell."""
        host, password = f"{self.name}-db", secrets.token_hex(16)
        self.given = {
            "DATABASE_URL": f"postgresql://contract:{password}@{host}:5432/contract",
            "SECRET_KEY": secrets.token_hex(32),
            "PORT": str(self.port),
            "DRAIN_DELAY": "1",  # short: an image that reads it is stopped many times
            **self.wanted.env,
        }
        login = {"POSTGRES_USER": "contract", "POSTGRES_DB": "contract", "POSTGRES_PASSWORD": password}
        options = ("--name", host, "--tmpfs", "/var/lib/postgresql", *as_options(login))
        try:
            postgres = self.run(POSTGRES, "-c", "fsync=off", options=options)
        except DockerError as error:
            raise BadInput(f"there is no Postgres to test with ({POSTGRES}): {error}") from None
        # By TCP: the first boot is ready twice, and the socket reports the first time.
        if not until(lambda: postgres.exec("pg_isready", "--quiet", "--host", "127.0.0.1") == 0, START):
            raise BadInput(f"the Postgres to test with ({POSTGRES}) does not start: {postgres.last_words()}")

    def migrate(self) -> None:
        if self.wanted.migrate:
            run = self.command(*self.wanted.migrate, seconds=120)
            if run is None or run.returncode:
                raise BadInput(f"MIGRATE failed: {last_line(run.stderr, run.stdout) if run else 'it does not end'}")

    def find_readiness(self) -> str:
        """READINESS if it answers 200, at once or after some moments of 503; else none."""
        until(lambda: self.app.status(READINESS) != 503, KILLED)
        return READINESS if self.app.status(READINESS) == 200 else ""

    def check_slow(self) -> None:
        if slow := self.wanted.slow:
            start = time.monotonic()
            status, took = self.app.status(slow, timeout=BUSY), time.monotonic() - start
            if status is None or status >= 400 or took < 0.5:
                answer = f"answers {status} after {took:.1f} s" if status else "does not answer"
                raise BadInput(f"SLOW={slow} {answer}: name a route that succeeds, and takes a second or more")

    # Containers of the image

    def run(self, image: str, *command: str, options: tuple[str, ...]) -> Container:
        started = docker(
            "run", "--detach", "--label", self.label, "--network", self.name, "--log-driver", "json-file",
            "--no-healthcheck", *options, image, *command,
        )  # fmt: skip
        return Container(started.stdout.strip(), self.port, ("--label", self.label, HELPER), self.http)

    def start(self, *options: str, **more: str) -> Container:
        """A container of the image, with its default command, that serves. Raises NotServing."""
        published = ("--publish", f"127.0.0.1::{self.port}")
        try:
            container = self.run(self.image, options=(*published, *as_options(self.given | more), *options))
        except DockerError as error:
            raise NotServing(f"does not start: {error}") from None
        container.wait_until_it_serves(self.probe, self.well)
        return container

    @contextmanager
    def serving(self, *options: str, **more: str) -> Iterator[Container]:
        container = self.start(*options, **more)
        try:
            yield container
        finally:
            container.remove()

    def command(
        self, *command: str, seconds: float = COMMAND, options: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str] | None:
        """Runs a command in place of the default one; None if it does not end in time."""
        name = f"{self.name}-{secrets.token_hex(4)}"
        options = options or ("--network", self.name)
        try:
            return docker(
                "run", "--rm", "--label", self.label, "--name", name, "--no-healthcheck", *as_options(self.given),
                *options, self.image, *command,
                check=False, timeout=seconds,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            docker("rm", "--force", "--volumes", name, check=False)
            return None

    def check_health_of(self, server: Container) -> bool:
        """Whether the image's health check passes when `server` is what listens."""
        program, *arguments = self.health_check or []
        options = ("--network", f"container:{server.id}", "--entrypoint", program)
        run = self.command(*arguments, options=options)
        return run is not None and run.returncode == 0

    @contextmanager
    def stand_in(self, status: int) -> Iterator[Container]:
        """A server that answers everything with this status."""
        command = ("python", "-c", BESIDE, "respond", str(status), str(self.port))
        container = self.run(HELPER, *command, options=("--publish", f"127.0.0.1::{self.port}"))
        try:
            container.wait_until_it_serves("/", status)
            yield container
        finally:
            container.remove()

    @cached_property
    def idle_stop(self) -> IdleStop:
        """Sends SIGTERM to an idle container; four promises use the result."""
        first = self.stop_idle()
        if first.seconds is None or first.seconds <= self.stop_limit:
            return first
        # The better of two runs: on a busy machine other processes may have had the CPU.
        return min(first, self.stop_idle(), key=lambda stop: stop.seconds or BUSY)

    def stop_idle(self) -> IdleStop:
        seen: list[int | None] = []
        with self.serving() as container:

            def look() -> None:
                if self.health:
                    seen.append(container.status(self.health, timeout=1))
                time.sleep(0.02)

            stop = container.stop("TERM", max(KILLED, self.stop_limit), meanwhile=look)
        return IdleStop(stop.seconds, stop.code, tuple(seen))

    def busy_stop(self, name: str) -> BusyStop:
        """Sends the signal to a container with requests in flight: many of SLOW, or one that is partly sent."""
        signalled, sent = threading.Event(), CROWD if self.wanted.slow else 1
        # No drain: the requests must outlast the listener.
        with self.serving(DRAIN_DELAY="0") as container, ThreadPoolExecutor(sent) as pool:

            def slow_request() -> bool:
                return (container.status(self.wanted.slow, timeout=BUSY) or 599) < 400

            def late_request() -> bool:
                with container.half_a_request() as finish:
                    signalled.wait(BUSY)
                    time.sleep(1)
                    return finish() == self.home

            try:
                answers = [pool.submit(slow_request if self.wanted.slow else late_request) for _ in range(sent)]
                container.wait_until_accepted(sent)
                stop = container.stop(name, BUSY if self.wanted.slow else KILLED, signalled=signalled.set)
            finally:  # or those that wait for an answer would wait on
                signalled.set()
                container.remove()
        return BusyStop(stop.seconds, stop.code, sum(each.result() for each in answers), sent)


def as_options(environment: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(word for name, value in environment.items() for word in ("--env", f"{name}={value}"))
