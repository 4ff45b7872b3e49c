"""One container of the image under test, and the docker command line that everything goes through."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

BESIDE = Path(__file__).with_name("beside.py").read_text()

START = 60.0  # seconds for a container to serve
TAKEN = 3.0  # seconds for a server to take connections from its queue


class BadInput(Exception):
    """There is nothing to judge; the message is one line that says why."""


class NotServing(Exception):
    """A container of the image never began to serve."""


class DockerError(Exception):
    """A docker command failed; the message is its last line."""


@dataclass(frozen=True)
class Stop:
    """How a container ended; both None where it did not end in time."""

    seconds: float | None
    code: int | None


class Container:
    def __init__(self, id: str, port: int, helper_options: tuple[str, ...], http: httpx.Client) -> None:
        self.id, self.port, self.helper_options, self.http = id, port, helper_options, http
        self.published: int | None = None

    def remove(self) -> None:
        """Removes only this container: the helper that shares its processes ends with it."""
        docker("rm", "--force", "--volumes", self.id, check=False)

    # What it answers

    @property
    def host_port(self) -> int | None:
        """Where PORT is published on this machine; None if the container had ended before it was asked."""
        if self.published is None and (ports := self.inspect()["NetworkSettings"]["Ports"].get(f"{self.port}/tcp")):
            self.published = int(ports[0]["HostPort"])
        return self.published

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(f"http://127.0.0.1:{self.host_port}{path}", **options)

    def status(self, path: str, **options: Any) -> int | None:
        """The answer's status; None without an answer: refused, reset, or silence."""
        try:
            return self.get(path, **options).status_code if self.host_port else None
        except httpx.HTTPError:
            return None

    def send(self, request: bytes) -> bytes:
        """Sends bytes that no HTTP client would, and reads what comes until the connection is closed."""
        answer = b""
        with socket.create_connection(("127.0.0.1", self.host_port), timeout=3) as connection:
            try:
                connection.sendall(request)
                while received := connection.recv(65536):
                    answer += received
            except OSError:  # reset or silence: how some servers answer nonsense
                pass
        return answer

    @contextmanager
    def half_a_request(self) -> Iterator[Callable[[], int | None]]:
        """A request for / that is partly sent; call what is yielded to send the rest and get the status."""
        address = f"127.0.0.1:{self.host_port}"
        with socket.create_connection(("127.0.0.1", self.host_port), timeout=15) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n".encode())

            def finish() -> int | None:
                try:
                    connection.sendall(b"\r\n")
                    line = connection.makefile("rb").readline()
                except OSError:
                    return None
                status = re.match(rb"HTTP/1\.\d (\d{3})", line)
                return int(status[1]) if status else None

            yield finish

    # What state it is in

    def inspect(self) -> dict[str, Any]:
        return json.loads(docker("inspect", self.id).stdout)[0]

    @property
    def running(self) -> bool:
        return self.inspect()["State"]["Running"]

    def wait_until_it_serves(self, path: str, status: int | None = None) -> None:
        """Returns once `path` answers, with `status` if given. Raises NotServing."""
        deadline, seen = time.monotonic() + START, None
        while time.monotonic() < deadline:
            answer = self.status(path)
            if answer is not None and status in (None, answer):
                return
            if answer is None and not (state := self.inspect()["State"])["Running"]:
                killed = ", out of memory" if state["OOMKilled"] else ""
                raise NotServing(
                    f"ended with exit code {state['ExitCode']}{killed} before it served: {self.last_words()}"
                )
            seen = answer or seen
            time.sleep(0.05)
        if seen:
            raise NotServing(f"answers {seen} at {path}, and no {status} within {START:g} s")
        raise NotServing(f"answers nothing on port {self.port} within {START:g} s (PORT names another)")

    def wait_until_accepted(self, count: int) -> None:
        """Returns once the server has accepted `count` connections, or accepts no more."""
        until(lambda: self.beside("accepted", str(self.port)) >= count, TAKEN)

    def logs(self) -> tuple[list[str], list[str]]:
        """The lines on stdout and those on stderr. Only a line feed ends a line."""
        run = subprocess.run(["docker", "logs", self.id], capture_output=True, check=True)
        stdout, stderr = (
            [line.decode(errors="backslashreplace") for line in output.split(b"\n") if line.strip()]
            for output in (run.stdout, run.stderr)
        )
        return stdout, stderr

    def last_words(self) -> str:
        stdout, stderr = self.logs()
        return last_line("\n".join(stderr), "\n".join(stdout))

    # What is done to it

    def exec(self, *command: str) -> int:
        return docker("exec", self.id, *command, check=False).returncode

    def beside(self, *task: str) -> Any:
        """What a task of beside.py finds about the container's processes and connections."""
        return json.loads(docker("exec", self.helper, "python", "-c", BESIDE, *task).stdout)

    @cached_property
    def helper(self) -> str:
        shared = ("--network", f"container:{self.id}", "--pid", f"container:{self.id}")
        return docker("run", "--detach", *shared, *self.helper_options, "sleep", "infinity").stdout.strip()

    def signal(self, name: str) -> None:
        docker("kill", "--signal", name, self.id, check=False)

    def stop(
        self,
        name: str,
        within: float,
        *,
        signalled: Callable[[], Any] = lambda: None,
        meanwhile: Callable[[], Any] = lambda: time.sleep(0.02),
    ) -> Stop:
        """Sends the signal and waits for the end."""
        with subprocess.Popen(["docker", "wait", self.id], stdout=subprocess.PIPE, text=True) as end:
            try:
                self.signal(name)
                start = time.monotonic()
                signalled()
                while end.poll() is None and time.monotonic() < start + within:
                    meanwhile()
                took = time.monotonic() - start
                return Stop(None, None) if end.poll() is None else Stop(took, int(end.stdout.read()))
            finally:
                end.kill()


def docker(*arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    try:
        run = subprocess.run(
            ["docker", *arguments],
            capture_output=True,
            check=False,
            timeout=timeout,
            encoding="utf-8",
            errors="backslashreplace",
        )
    except FileNotFoundError:
        raise BadInput("docker is not on the PATH: https://docs.docker.com/engine/install") from None
    if check and run.returncode:
        raise DockerError(f"docker {arguments[0]}: {last_line(run.stderr)}")
    return run


def until(state: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Whether the state was reached within the time."""
    deadline = time.monotonic() + seconds
    while not (holds := state()) and time.monotonic() < deadline:
        time.sleep(pause)
    return holds


def last_line(*texts: str) -> str:
    """The last line of the first text that has one, safe for a terminal."""
    lines = next((text.strip().split("\n") for text in texts if text.strip()), ["it said nothing"])
    return shown(lines[-1])


def shown(text: str, length: int = 200) -> str:
    """Text of unknown origin on one line, without control sequences for a terminal."""
    text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return text if len(text) <= length else text[:length] + "…"
