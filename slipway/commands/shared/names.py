"""What a project or a service may be called."""

import re

# Compose, Docker, DNS, Postgres and Python all take it; with what they add to it, none finds it too long.
SHAPE = re.compile(r"[a-z][a-z0-9]{1,29}")


def problem(name: str) -> str | None:
    """What is wrong with the shape of the name, as the end of a sentence; None where nothing is."""
    if SHAPE.fullmatch(name):
        return None
    return f"{name!r} is no name: it takes 2 to 30 lower-case letters and digits, a letter first, such as myshop"
