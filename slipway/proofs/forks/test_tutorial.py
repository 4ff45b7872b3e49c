"""docs/tutorial.md, carried out: its commands in their order, its edits, and the output that it shows."""

import os
import re
import secrets
import signal
import subprocess
import time
from pathlib import Path
from typing import IO

import httpx
import pytest

from slipway.proofs.forks.fork import Fork
from slipway.proofs.harness import ROOT, Stack, free_port, ports, wait_until

pytestmark = pytest.mark.containers
BLOCK = re.compile(r"```(console|diff)\n(.*?)```", re.DOTALL)
EDITED = re.compile(r"`(services/\S+)`")
TIMEOUT = 600  # seconds for a command, cold image builds included


class Reader:
    """A reader who types what the page says, in the current directory."""

    def __init__(self, directory: Path, environment: dict[str, str], other: dict[str, str], first: str) -> None:
        self.directory, self.environment, self.other = directory, environment, other
        self.nameless = {"COMPOSE_PROJECT_NAME": first, "IMAGE_PREFIX": f"{first}/"}  # what runs before the rename
        self.background: subprocess.Popen | None = None
        self.log: IO[str] | None = None

    def follow(self, page: str) -> None:
        for found in BLOCK.finditer(page):
            kind, text = found.groups()
            if kind == "console":
                self.type(self.here(text))
            else:
                self.edit(self.here(EDITED.findall(page[: found.start()])[-1]), self.here(text))

    def here(self, text: str) -> str:
        """The text with this run's names, ports and paths instead of the page's."""
        return re.sub("|".join(map(re.escape, self.other)), lambda found: self.other[found[0]], text)

    def type(self, block: str) -> None:
        for step in re.split(r"^(?=\$ |\^C$)", block, flags=re.MULTILINE):
            command, _, shown = step.partition("\n")
            if command == "^C":
                self.see(command, shown, self.interrupt())
            elif command.startswith("$ cd "):
                self.directory /= command.removeprefix("$ cd ")
            elif command == "$ make dev":
                self.start(command.removeprefix("$ "))
            elif command:
                self.see(command, shown, self.run(command.removeprefix("$ ")))

    def run(self, command: str) -> str:
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        print(f"{time.monotonic() - began:6.1f} s  {command}")
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}"
        return done.stdout

    def start(self, command: str) -> None:
        """Starts what the page leaves running, and waits until it answers."""
        self.log = (self.directory.parent / "background.log").open("w+")
        self.background = subprocess.Popen(
            command.split(),
            cwd=self.directory,
            env=self.environment | self.nameless,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )
        wait_until("the development server", self.answers, TIMEOUT)

    def answers(self) -> bool:
        if self.background.poll() is not None:
            raise RuntimeError(f"it has ended:\n{self.said()}")
        url = self.here("http://localhost:8000/health/ready")
        return httpx.get(url, trust_env=False, timeout=20).status_code == 200

    def interrupt(self) -> str:
        os.killpg(self.background.pid, signal.SIGINT)
        self.background.wait(60)
        said = self.said()
        self.log.close()
        self.background = None
        return said

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def see(self, command: str, shown: str, said: str) -> None:
        """Asserts that all the shown output was printed, in this order; `…` stands for anything."""
        pattern = ".*?".join(map(re.escape, re.split(r"\s*…\s*", shown.strip())))
        assert re.search(pattern, said, re.DOTALL), f"{command} says\n{said}\nand not\n{shown}"

    def edit(self, path: str, diff: str) -> None:
        lines = diff.splitlines()
        former, new = (
            "".join(f"{line[1:]}\n" for line in lines if line[0] in signs) for signs in ((" ", "-"), (" ", "+"))
        )
        text = (self.directory / path).read_text()
        assert text.count(former) == 1, f"{path} has not once\n{former}"
        (self.directory / path).write_text(text.replace(former, new))


@pytest.fixture
def reader(tmp_path):
    """In a separate directory, beside a repository to clone, with no settings but other ports."""
    (tmp_path / "origin").mkdir()
    origin = Fork(tmp_path / "origin")
    if (origin.directory / ".slipway.toml").exists():  # this tree is a fork itself
        (origin.directory / ".slipway.toml").unlink()
        origin.commit("Forget the name")
    name, development, site = f"shop{secrets.token_hex(3)}", free_port(), ports()
    other = {
        "https://git.example/you/fork.git": str(origin.directory),
        "myshop": name,
        "billing": f"bill{secrets.token_hex(3)}",
        "localhost:8000": f"localhost:{development}",
        "https://localhost": f"https://localhost:{site['HTTPS_PORT']}",
    }
    named = ("COMPOSE_PROJECT_NAME", "IMAGE_PREFIX")
    environment = {key: value for key, value in origin.environment.items() if key not in named}
    environment |= {key: str(value) for key, value in site.items()}
    environment |= {"DEV_PORT": str(development), "NO_PROXY": "localhost", "no_proxy": "localhost"}
    environment |= {f"GIT_{who}_{what}": text for who in ("AUTHOR", "COMMITTER") for what, text in PERSON.items()}
    reader = Reader(tmp_path, environment, other, f"{name}-first")
    yield reader
    if reader.background:
        reader.interrupt()
    for project in (name, f"{name}-first"):
        Stack(tmp_path, project, IMAGE_PREFIX=f"{project}/").destroy()


PERSON = {"NAME": "Test", "EMAIL": "test@shop.example"}


def test_what_the_tutorial_says_happens(reader):
    reader.follow((ROOT / "docs/tutorial.md").read_text())
