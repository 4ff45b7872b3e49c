"""What a project or a service may be called."""

import re

# Compose, Docker, DNS, Postgres and Python all accept it, and with what they append it is not too long for any.
SHAPE = re.compile(r"[a-z][a-z0-9]{1,29}")


def problem(name: str) -> str | None:
    """What is wrong with the form of the name, as the end of a sentence; None if nothing is."""
    if SHAPE.fullmatch(name):
        return None
    return f"{name!r} is no name: it takes 2 to 30 lower-case letters and digits, a letter first, such as myshop"
