"""What the board says of a service in trouble, and what it draws."""

import pytest

from chassis.observe import timeseries
from chassis.web import board

COUNTS = dict.fromkeys(("requests", "errors", "lost"), [0] * timeseries.STEPS)
QUIET = COUNTS | dict.fromkeys(("milliseconds", "database"), [None] * timeseries.STEPS)


def replica(name="web-a", problem=None, **changed):
    return {"name": name, "problem": problem, "database": {"answers": True}, "recent": {**QUIET, **changed}}


def status(*replicas):
    return {"name": "web", "version": "1.2.3", "status": "up", "replicas": list(replicas)}


@pytest.mark.parametrize(
    ("problems", "title"),
    [
        ([None], "web is up."),
        ([None, None], "web is up."),
        ([None, "does not answer"], "web is up, on 1 of 2 replicas."),
        ([None, "draining"], "web is up, on 1 of 2 replicas."),
        (["no database", "does not answer"], "web is up, its database is not."),
        (["migrations are pending"], "web is up, its schema is behind."),
    ],
)
def test_the_headline_is_the_worst_that_is_true(problems, title):
    said = board.headline(status(*[replica(f"web-{number}", each) for number, each in enumerate(problems)]))
    assert said.title == title
    assert said.flag == ("difficulty" if any(problems) else "affirmative")


def test_a_missing_replica_is_named():
    said = board.headline(status(replica("web-a"), replica("web-b", "does not answer")))
    assert said.text == "web-b: does not answer."


def test_strangers_read_the_version_and_nothing_of_replicas():
    said = board.headline({"name": "web", "version": "1.2.3", "status": "up"})
    assert (said.title, said.text) == ("web is up.", "Version 1.2.3.")


def test_nothing_counted_draws_nothing_and_divides_by_nothing():
    chart = board.charts(replica())
    assert (chart["requests"], chart["errors"], chart["mean"], chart["typical"]) == (0, 0, None, None)
    assert chart["latency"] == chart["traffic"] == chart["failures"] == []


def test_requests_are_added_up_by_the_minute_and_errors_drawn_to_their_scale():
    counts = [0] * (timeseries.STEPS - 6) + [1, 2, 3, 0, 0, 4]
    failed = [0] * (timeseries.STEPS - 1) + [5]
    took = [None if not count else 8.0 for count in counts]
    chart = board.charts(replica(requests=counts, errors=failed, milliseconds=took))
    assert (chart["requests"], chart["errors"], chart["mean"]) == (10, 5, 8.0)
    assert chart["traffic"] == [(14, 40)]
    assert chart["failures"] == [(14, 20)]


def test_a_small_figure_beside_a_large_one_is_still_seen():
    ((_, small), (_, large)) = board.bars([1, 0, 10_000])
    assert (small, large) == (1.5, 40)
