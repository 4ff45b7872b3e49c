"""What the board shows of `status.report()`: a headline, and the charts' geometry."""

from collections.abc import Sequence
from typing import Any, NamedTuple

MINUTE = 6  # steps of ten seconds
HEIGHT = 40  # of a chart, in its own units; its width is one unit per value


class Headline(NamedTuple):
    """A signal flag's file, what the flag means, and the page's title and text."""

    flag: str
    meaning: str
    title: str
    text: str


def headline(status: dict[str, Any]) -> Headline:
    """The most serious state, in one sentence."""
    name, version = status["name"], status["version"]
    replicas = status.get("replicas", [])
    serving = [each for each in replicas if not each["problem"]]
    problems = {each["problem"] for each in replicas} - {None}
    if "no database" in problems:
        text = "This page still answers. Pages that need the database come back with it."
        return _trouble(f"{name} is up, its database is not.", text)
    if "migrations are pending" in problems:
        return _trouble(f"{name} is up, its schema is behind.", "Its migrations have not run: `make migrate`.")
    if problems:
        missing = ", ".join(f"{each['name']}: {each['problem']}" for each in replicas if each["problem"])
        return _trouble(f"{name} is up, on {len(serving)} of {len(replicas)} replicas.", f"{missing}.")
    said = [] if version == "unversioned" else [f"Version {version}."]
    if len(replicas) > 1:
        said.append(f"All {len(replicas)} replicas serve.")
    if any(each["database"] for each in replicas):
        said.append("The database answers, too.")
    return Headline("affirmative", "C: affirmative", f"{name} is up.", " ".join(said))


def _trouble(title: str, text: str) -> Headline:
    return Headline("difficulty", "D: I am manoeuvring with difficulty", title, text)


def charts(replica: dict[str, Any]) -> dict[str, Any]:
    """Figures and bars of a replica's last quarter of an hour, oldest on the left."""
    recent = replica["recent"]
    pings = sorted(value for value in recent["database"] if value is not None)
    requests, errors = by_minute(recent["requests"]), by_minute(recent["errors"])
    spent = sum(count * (each or 0) for count, each in zip(recent["requests"], recent["milliseconds"], strict=True))
    return {
        "latency": bars([value or 0 for value in recent["database"]]),
        "lost": [place for place, count in enumerate(recent["lost"]) if count],
        "typical": pings[len(pings) // 2] if pings else None,
        "slowest": max(pings, default=None),
        "traffic": bars(requests),
        "failures": bars(errors, max(requests)),
        "requests": sum(requests),
        "errors": sum(errors),
        "mean": spent / sum(requests) if sum(requests) else None,
    }


def bars(values: Sequence[float], top: float = 0) -> list[tuple[int, float]]:
    """Place and height of each value but 0, scaled to the largest or to `top`; none is too small to see."""
    scale = HEIGHT / (top or max(values) or 1)
    return [(place, round(max(value * scale, 1.5), 2)) for place, value in enumerate(values) if value]


def by_minute(steps: list[int]) -> list[int]:
    return [sum(steps[start : start + MINUTE]) for start in range(0, len(steps), MINUTE)]
