"""The Python of the images, and that of the environment in which `make test` and native runs take place.

`python -m slipway.commands.shared.pythons` says so in one line if they differ. Standard library only.
"""

import re
import sys

from slipway.commands import ROOT
from slipway.commands.shared import engine

INSTALLED = re.compile(r"^version(?:_info)? *= *(\d+\.\d+)", re.MULTILINE)  # in pyvenv.cfg


def image() -> str:
    """Major and minor version, such as 3.14."""
    return engine.found(r"^ARG PYTHON=(\d+\.\d+)", "docker/service.Dockerfile")


def difference() -> str:
    """Such as `Python 3.11 here, 3.14 in the image`; empty if they are the same or nothing is installed."""
    environment = ROOT / ".venv/pyvenv.cfg"
    here = INSTALLED.search(environment.read_text()) if environment.exists() else None
    return f"Python {here[1]} here, {image()} in the image" if here and here[1] != image() else ""


def report() -> None:
    """Prints the difference, if there is one, to stderr."""
    if found := difference():
        print(f"{found}: `make doctor` says what to do.", file=sys.stderr, flush=True)


if __name__ == "__main__":
    report()
