"""Whether the development images have to be rebuilt. Standard library only."""

import hashlib

from slipway.commands import ROOT
from slipway.commands.shared import dotenv, engine
from slipway.commands.shared.compose import development

# What a development image holds besides the source, which is mounted.
MADE_OF = (
    "docker/*.*",
    ".dockerignore",
    "pyproject.toml",
    "uv.lock",
    "libs/*/pyproject.toml",
    "slipway/*/pyproject.toml",
    "services/*/pyproject.toml",
)


def inputs() -> str:
    """A digest of what the development images are made of: they are not rebuilt while it stays the same."""
    base = dotenv.get("REGISTRY") + engine.bases()[0]
    content = hashlib.sha256(
        engine.run("docker", "image", "inspect", "--format", "{{.Id}} " + base, base).stdout.encode()
    )
    for pattern in MADE_OF:
        for path in sorted(ROOT.glob(pattern)):
            content.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return content.hexdigest()[:16]


def built(word: str) -> bool:
    """Whether every development image was built from these inputs."""
    listing = engine.run(*development(), "config", "--images").stdout.split()
    names = sorted({name for name in listing if name.endswith(":dev")})
    labels = engine.run("docker", "image", "inspect", "--format", '{{index .Config.Labels "slipway.inputs"}}', *names)
    return bool(names) and labels.stdout.split() == [word] * len(names)
