"""What `make log-level` and `make stacks` ask of whom, and what they refuse."""

import subprocess

import pytest

from slipway.commands import running
from slipway.commands.shared.inventory import Service
from slipway.commands.shared.stop import Stop


@pytest.fixture
def asked(monkeypatch):
    """What compose was called with."""
    calls = []

    def compose(*words, **options):
        calls.append(words)
        return subprocess.CompletedProcess(words, 0, "worker, process 8: done\n", "")

    monkeypatch.setattr(running.compose, "compose", compose)
    services = [Service("web"), Service("tick", kind="worker"), Service("report", kind="script")]
    monkeypatch.setattr(running.inventory, "all", lambda: services)
    return calls


def test_a_level_is_set_in_one_replica_in_a_pair_or_in_all_that_runs(asked, capsys):
    running.log_level(level="debug", s="web-a", duration="90s")
    assert asked == [("exec", "-T", "web-a", *running.ASK, "level", "DEBUG", "90")]
    assert capsys.readouterr().out == "web-a: worker, process 8: done\n"
    del asked[:]
    running.stacks(s="web")
    running.stacks()
    assert [words[2] for words in asked] == ["web-a", "web-b", "web-a", "web-b", "tick"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"level": "LOUD"}, "level= takes one of DEBUG, INFO"),
        ({}, "level= takes one of"),
        ({"level": "DEBUG", "duration": "10"}, "for= takes a time up to 24h, such as 30s"),
        ({"level": "DEBUG", "duration": "25h"}, "for= takes a time up to 24h"),
        ({"level": "DEBUG", "s": "report"}, "nothing in production is called report: s= takes web, tick, web-a, web-b"),
    ],
)
def test_what_can_not_be_asked_is_refused_before_anyone_is(asked, words, said):
    with pytest.raises(Stop, match=said):
        running.log_level(**words)
    assert asked == []


def test_a_replica_that_does_not_run_is_named(monkeypatch, asked):
    failed = subprocess.CompletedProcess((), 1, "", 'service "web-a" is not running\n')
    monkeypatch.setattr(running.compose, "compose", lambda *words: failed)
    with pytest.raises(Stop, match='web-a can\'t be asked: service "web-a" is not running'):
        running.stacks(s="web-a")
