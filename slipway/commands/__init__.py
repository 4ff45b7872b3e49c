"""The program behind `make`: one module for each verb, and what they share. What runs on a server, or before an
environment exists, uses the standard library only."""

import os
from pathlib import Path

# The repository to work on. It is not the one that holds this file when an update hands over to the newer program.
ROOT = Path(os.environ.get("SLIPWAY_ROOT") or Path(__file__).parents[2])
