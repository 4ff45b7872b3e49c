"""Promises of images that serve no HTTP: a worker, which runs until it is told to stop, and a script.

The promises in promises.py that apply to any image are checked for these as well; those that need a request
have a counterpart here, under the same number.
"""

from collections.abc import Callable
from contextlib import contextmanager
from functools import cached_property

from slipway.proofs.contract.container import START, Container, NotServing, Stop, docker, until
from slipway.proofs.contract.promises import HARDENED, OURS, PROMISES, Broken, Promise, expect_clean, is_object
from slipway.proofs.contract.subject import KILLED, Subject, as_options

ANY_IMAGE = (1, 2, 4, 5, 6, 7, 8, 9, 10)
PROMPT = 3.0  # seconds to stop, with no round of work under way
AS_ANYBODY = ("--user", "54321:54321")


class Worker(Subject):
    """A worker's image, and containers of it, with a network and nothing beside them."""

    def open(self) -> None:
        assert self.inspected  # before anything is made for it
        docker("network", "create", "--label", self.label, self.name)
        self.given = dict(self.wanted.env)
        self.app = self.start()

    def start(self, *options: str, **more: str) -> Container:
        """A container whose own health check passes. Raises NotServing."""
        container = self.run(self.image, options=(*as_options(self.given | more), *options))
        if not until(lambda: container.exec(*self.health_check) == 0, START):
            raise NotServing(f"is not well within {START:g} s: {container.last_words()}")
        return container

    @contextmanager
    def working(self, *options: str):
        container = self.start(*options)
        try:
            yield container
        finally:
            container.remove()

    @cached_property
    def idle_stop(self) -> Stop:
        return self.stopped_by("TERM")

    def stopped_by(self, signal: str) -> Stop:
        with self.working() as container:
            return container.stop(signal, KILLED)


class Script(Subject):
    """A script's image; each run of it is a container to its end."""

    def open(self) -> None:
        assert self.inspected
        docker("network", "create", "--label", self.label, self.name)
        self.given = dict(self.wanted.env)

    def run_through(self, *options: str) -> None:
        """Raises Broken unless it exits with 0 and logs only JSON."""
        run = docker("run", "--rm", "--label", self.label, *options, self.image, check=False)
        if run.returncode:
            raise Broken(f"it exits with {run.returncode}: {run.stderr or run.stdout}")
        expect_json(run.stdout.splitlines(), run.stderr.splitlines())


def promise(number: int, text: str) -> Callable:
    return lambda judge: Promise(number, "Process", text, "see promises.py", judge)


@promise(3, "Its health check passes while it works, and fails where it does not")
def the_health_check_tells(subject: Worker) -> None:
    if subject.app.exec(*subject.health_check) != 0:
        raise Broken("the check fails on a worker that works")
    program, *arguments = subject.health_check
    run = subject.command(*arguments, options=("--network", "none", "--entrypoint", program))
    if run is None or run.returncode == 0:
        raise Broken("the check passes where no worker has beaten")


@promise(15, "SIGTERM ends it promptly and cleanly")
def sigterm_ends_it(subject: Worker) -> None:
    expect_prompt(subject.idle_stop)


@promise(16, "SIGINT does the same")
def sigint_ends_it(subject: Worker) -> None:
    expect_prompt(subject.stopped_by("INT"))


@promise(21, "Logs are one JSON object a line on stdout")
def logs_are_json(subject: Worker) -> None:
    expect_json(*subject.app.logs())


@promise(23, "It works with a read-only root file system, without capabilities, in 256 MB")
def it_works_hardened(subject: Worker) -> None:
    with subject.working(*HARDENED):
        pass


@promise(24, "It works as any user id")
def it_works_as_anybody(subject: Worker) -> None:
    with subject.working(*AS_ANYBODY):
        pass


@promise(21, "It ends with 0, and its log is one JSON object a line on stdout")
def it_ends_well(subject: Script) -> None:
    subject.run_through()


@promise(23, "It works with a read-only root file system, without capabilities, in 256 MB")
def it_ends_well_hardened(subject: Script) -> None:
    subject.run_through(*HARDENED)


@promise(24, "It works as any user id")
def it_ends_well_as_anybody(subject: Script) -> None:
    subject.run_through(*AS_ANYBODY)


def expect_prompt(stop: Stop) -> None:
    if stop.seconds is None or stop.seconds > PROMPT:
        raise Broken(f"it takes {stop.seconds or KILLED:.1f} s to stop")
    expect_clean("told to stop", stop)


def expect_json(stdout: list[str], stderr: list[str]) -> None:
    if wrong := [line for line in stdout if not is_object(line)] or stderr or [] if stdout else ["nothing"]:
        raise Broken(f"the log says: {wrong[0]}")


ANY = [*(each for each in PROMISES if each.number in ANY_IMAGE), *OURS]
ORPHANS = [each for each in PROMISES if each.number == 14]
WORKER = [
    *ANY, the_health_check_tells, *ORPHANS, sigterm_ends_it, sigint_ends_it, logs_are_json, it_works_hardened,
    it_works_as_anybody,
]  # fmt: skip
SCRIPT = [*ANY, it_ends_well, it_ends_well_hardened, it_ends_well_as_anybody]
