"""The one error that ends a verb."""


class Stop(Exception):
    """Why it can't go on, and what to do, in one line without a full stop."""
