"""The registry between the machine that builds and those that run, and which bytes a tag means.

`.images`, beside `.env`, notes the digest of each image that was pushed or pulled, one line each: `NAME:TAG sha256:…`.
A tag may move in the registry or here; what it meant first is what it means. An image that was only built here has no
line, and is never pulled. Standard library only.
"""

import re

from slipway.commands import ROOT
from slipway.commands.shared import atomic
from slipway.commands.shared.compose import docker, last_line, parse
from slipway.commands.shared.stop import Stop

FILE = ROOT / ".images"
LINE = re.compile(r"(\S+:[\w.-]+) (sha256:[0-9a-f]{64})", re.ASCII)
SAID = re.compile(r"\bdigest: (sha256:[0-9a-f]{64})", re.IGNORECASE)  # by a push or a pull


def noted() -> dict[str, str]:
    """The digest of each image that has a line. Raises Stop for a line that can't be understood."""
    found = {}
    for number, line in enumerate(FILE.read_text().splitlines() if FILE.exists() else [], 1):
        if not (match := LINE.fullmatch(line.strip())):
            raise Stop(f"{FILE.name}, line {number}, is not `NAME:TAG sha256:…`: correct or delete it")
        found[match[1]] = match[2]
    return found


def note(image: str, digest: str) -> None:
    lines = sorted((noted() | {image: digest}).items())
    atomic.write(FILE, "".join(f"{name} {value}\n" for name, value in lines))


def exists(image: str) -> bool:
    return docker("image", "inspect", image).returncode == 0


def current(image: str) -> str | None:
    """The digest that the tag has in the registry now; None if it has none, or the registry does not answer."""
    said = docker("buildx", "imagetools", "inspect", "--format", "{{json .Manifest}}", image).stdout
    return parse(said).get("digest")


def refuse_if_moved(image: str) -> None:
    """If the registry does not answer, the noted bytes are still the right ones."""
    meant = noted().get(image)
    if meant and (now := current(image)) and now != meant:
        raise Stop(
            f"{image} has moved: it was {meant}, and is {now} in the registry; push the change under a new tag, or"
            f" delete the line in {FILE.name} to take what the tag is now"
        )


def provide(image: str) -> bool:
    """Makes the image available under its name, with the noted bytes if it has a line. Returns False if it has none, is
    not here and can't be pulled. Raises Stop if it has one and those bytes can't be had."""
    if not (digest := noted().get(image)):
        return exists(image) or pulled(image)
    meant = f"{image.rpartition(':')[0]}@{digest}"
    if docker("tag", meant, image).returncode:  # not here under any name
        run = docker("pull", "--quiet", meant)
        if run.returncode or docker("tag", meant, image).returncode:
            raise Stop(f"{image} is {digest} in {FILE.name}, not here, and can't be pulled: {last_line(run.stderr)}")
    return True


def pulled(image: str) -> bool:
    """Pulls what the tag means now, and notes it first: whatever interrupts this, it has one meaning."""
    if digest := current(image):
        note(image, digest)
        return provide(image)
    run = docker("pull", image)  # from a registry that only the engine's own settings reach, such as one without TLS
    if said := SAID.search(run.stdout):
        note(image, said[1])
    return run.returncode == 0


def push(image: str) -> None:
    """Raises Stop."""
    run = docker("push", image)
    if not (said := SAID.search(run.stdout)) or run.returncode:
        raise Stop(f"{image} can't be pushed: {last_line(run.stderr)}")
    note(image, said[1])
