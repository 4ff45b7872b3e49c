"""The program behind `make`: one module a verb, and what they share. What runs on a server, or before there is an
environment, is standard library only."""

import os
from pathlib import Path

# The repository that is worked on: another one than this lies in where an update hands over to the newer program.
ROOT = Path(os.environ.get("SLIPWAY_ROOT") or Path(__file__).parents[2])
