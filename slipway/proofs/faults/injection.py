"""What the fault tests share: the stack with its misbehaving routes, light load, and faults."""

import os
import re
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from slipway.proofs.harness import Stack, ports, started, to_host, unique, wait_until


@dataclass
class Load:
    """Light load: `threads` clients, each sending one request after the other, and what each answer was."""

    url: str
    method: str = "GET"
    threads: int = 4
    pause: float = 0.02
    certificate: str | None = None  # the certificate authority to trust
    host: str = ""  # the host to ask for, if it is not the URL's
    answers: list[tuple[float, int, float]] = field(default_factory=list)  # when, status or 0, seconds
    broken: list[str] = field(default_factory=list)  # what became of those with no status

    def __enter__(self) -> "Load":
        self.stopping = threading.Event()
        self.running = [threading.Thread(target=self.ask, daemon=True) for _ in range(self.threads)]
        for thread in self.running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.running:
            thread.join(60)

    def ask(self) -> None:
        verify = ssl.create_default_context(cadata=self.certificate)
        with httpx.Client(trust_env=False, timeout=30, verify=verify) as client:
            while not self.stopping.wait(self.pause):
                begun = time.monotonic()
                body = {"title": f"load {begun}"} if self.method == "POST" else None
                try:
                    status = client.request(self.method, self.url, json=body, **to_host(self.host)).status_code
                except httpx.HTTPError as error:
                    status = 0
                    self.broken.append(repr(error))
                self.answers.append((begun, status, time.monotonic() - begun))

    def count(self, *statuses: int) -> int:
        return sum(status in statuses for _, status, _ in self.answers)

    @property
    def errors(self) -> int:
        return sum(not 200 <= status < 300 for _, status, _ in self.answers)

    @property
    def slowest(self) -> float:
        return max(seconds for _, _, seconds in self.answers)


class Faulty(Stack):
    """Production with the probe, and slipway/proofs/faults/faults.yaml on top."""

    def url(self, service: str, path: str = "") -> str:
        return f"http://{self.compose('port', service, '8000').stdout.strip()}{path}"

    def start(self, *services: str) -> None:
        self.compose("up", "--detach", "--wait", *services)

    def pid(self, service: str) -> int:
        return self.container(service)["State"]["Pid"]

    def workers(self, service: str) -> set[int]:
        """Host ids of the workers: the server's processes that started no other."""
        return set(self.parents(service))

    def parents(self, service: str) -> dict[int, int]:
        """The workers' host ids, and each one's master's."""
        table = self.run("docker", "top", self.container(service)["Id"], "-eo", "pid,ppid,args").stdout
        rows = [line.split(None, 2) for line in table.splitlines()[1:]]
        of_server = re.compile(r"(?!.*\btini\b).*\b(gunicorn|server\.uwsgi)\b").match
        processes = {int(pid): int(parent) for pid, parent, args in rows if of_server(args)}
        masters = set(processes.values())
        return {pid: parent for pid, parent in processes.items() if parent in processes and pid not in masters}

    def log(self, service: str) -> str:
        return self.compose("logs", "--no-log-prefix", service).stdout


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """By host process id: `docker kill` would keep the restart policy from acting."""
    subprocess.run([*as_root(), "kill", f"-{number.value}", str(pid)], check=True)


def as_root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]


@contextmanager
def faulty_production(
    tree: Path, overlay: str = "slipway/proofs/faults/faults.yaml", **settings: object
) -> Iterator[Faulty]:
    proxy = f"compose/proxy.{settings.get('PROXY', 'caddy')}.yaml"
    files = f"compose/base.yaml:compose/prod.yaml:{proxy}:compose/web.yaml:{overlay}"
    environment = {"COMPOSE_FILE": files, "COMPOSE_ENV_FILES": ".env", **ports(), **settings}
    with started(Faulty(tree, unique("faults"), **environment)) as stack:
        yield stack


@contextmanager
def silent_resolver(stack: Faulty, service: str) -> Iterator[None]:
    path = stack.container(service)["ResolvConfPath"]
    former = subprocess.run([*as_root(), "cat", path], check=True, capture_output=True).stdout

    def write(content: bytes) -> None:
        subprocess.run([*as_root(), "tee", path], input=content, check=True, capture_output=True)

    write(b"nameserver 192.0.2.1\noptions timeout:1 attempts:1\n")  # RFC 5737: belongs to no host
    try:
        yield
    finally:
        write(former)


def fill_the_disk(stack: Faulty) -> None:
    """Fills Postgres's disk; for a stack with slipway/proofs/faults/small-disk.yaml."""
    stack.compose("exec", "-T", "db", "sh", "-c", "head -c 1G /dev/zero > /var/lib/postgresql/filler; true")


def free_the_disk(stack: Faulty) -> None:
    stack.compose("exec", "-T", "db", "rm", "/var/lib/postgresql/filler")


def status(url: str) -> int:
    """The answer's status, 0 without an answer. Uses plain HTTP, since trusted certificates take long to load."""
    try:
        return httpx.get(url, trust_env=False, verify=False, timeout=10).status_code
    except httpx.HTTPError:
        return 0


def seconds_until(what: str, state: Callable[[], object], limit: float) -> float:
    begun = time.monotonic()
    wait_until(what, state, limit)
    return time.monotonic() - begun


def fault_and_recovery(stack: Faulty, inject: Callable, heal: Callable, service: str = "web-a") -> tuple[float, float]:
    """Seconds until readiness turned 503 after the fault, and until it was back once Postgres answered.

    Asserts that liveness never changed, and that nothing was restarted meanwhile.
    """
    ready, live = stack.url(service, "/health/ready"), stack.url(service, "/health/live")
    started_at = stack.container(service)["State"]["StartedAt"]
    assert status(ready) == 200
    inject()
    flip = seconds_until("not ready", lambda: status(ready) == 503, 20)
    assert status(live) == 200
    heal()
    wait_until("Postgres answers", stack.postgres_answers, 60)
    recover = seconds_until("ready", lambda: status(ready) == 200, 20)
    assert status(live) == 200
    assert stack.container(service)["State"]["StartedAt"] == started_at
    return flip, recover
