"""`make capacity`: its arithmetic, its defaults, and what it says to input that can't be."""

import json
import re

import pytest

from slipway.commands import ROOT, capacity
from slipway.commands.shared import dotenv
from slipway.commands.shared.stop import Stop

COSTS = {
    "app_ms": 1.0, "query_ms": 0.2, "caddy_ms": 0.5, "nginx_ms": 0.1,
    "base_mib": 60, "worker_mib": 15, "worker_cpus": 0.8,
}  # fmt: skip


@pytest.fixture(autouse=True)
def measured(tmp_path, monkeypatch):
    """These costs, and no setting but the defaults."""
    for name in re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dotenv, "FILE", tmp_path / ".env")
    monkeypatch.setattr(capacity, "MEASURED", tmp_path / "capacity.json")
    capacity.MEASURED.write_text(json.dumps({"costs": COSTS}))


@pytest.fixture
def said(capsys):
    def say(**words):
        capacity.capacity(**{"server_cpus": "8", "server_memory": "16", **words})
        return capsys.readouterr().out

    return say


def figure(name, text):
    return float(re.search(rf"^  {name} +([\d,.]+)", text, re.MULTILINE)[1].replace(",", ""))


def met(text):
    """The rate of each limit, with the mark of those that the load meets."""
    rows = re.findall(r"^([! ]) +([\d,]+)  (\S.*?)  ", text, re.MULTILINE)
    return {what: (mark == "!", int(rate.replace(",", ""))) for mark, rate, what in rows}


def test_it_says_how_many_of_each_and_which_limit_is_met_first(said):
    text = said(rps="3000", query_ms="2")
    # 1 CPU over 1 ms is 1,000 requests a second, 700 of them planned with: 5 replicas, and one more.
    assert figure("replicas", text) == 6
    assert (figure("workers", text), figure("threads", text), figure("database connections", text)) == (12, 96, 108)
    assert figure("memory, GiB", text) == 3.0
    assert (figure("CPUs of Postgres", text), figure("CPUs of caddy", text)) == (8.6, 2.1)
    limits = met(text)
    assert limits["Postgres's CPU"] == (True, 350)
    assert limits["the pair of replicas"] == (True, 700)
    assert limits["the proxy's CPU (caddy)"] == (True, 1400)
    assert limits["100 database connections"] == (True, 2800)
    assert limits["one server's 8 CPUs"] == (True, 1600)
    assert limits["900 connections, the most"][0] is False
    assert "The first limit is Postgres's CPU, at 350 requests a second: " in text
    assert list(limits.values()) == sorted(limits.values(), key=lambda each: each[1])


def test_requests_that_wait_use_up_threads_and_not_cpus(said):
    text = said(rps="100", wait_ms="1000", app_ms="5")
    # 16 threads over 1,005.2 ms: 15.9 a second, 11.1 of them planned with.
    assert (figure("requests/s of each", text), figure("replicas", text)) == (11, 10)
    assert "held back by WEB_THREADS" in text
    assert "held back by WEB_CPUS" in said()


def test_settings_are_those_of_env_and_of_what_was_typed(said, monkeypatch):
    dotenv.FILE.write_text("WEB_CPUS=4\nPROXY=nginx\n")
    monkeypatch.setenv("DATABASE_CONNECTIONS", "200")
    text = said(rps="10000", busy="50")
    # 4 workers use 3.2 CPUs at most.
    assert "4 CPU, 4 workers, 8 threads in each" in text
    assert figure("requests/s of each", text) == 1600
    assert met(text)["200 database connections"] == (True, 6400)
    assert met(text)["the proxy's CPU (nginx)"] == (True, 5000)


def test_without_a_word_every_default_is_said(said):
    text = said()
    assert text.startswith("100 requests a second; each takes 1 ms of CPU in the app and 0.2 ms in Postgres,\n")
    assert "waits 0 ms for others. Planned with 70% of each resource." in text
    assert "The first limit will be the pair of replicas, at 700 requests a second: " in text
    assert not any(mark for mark, _ in met(text).values())


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"rps": "many"}, "rps must be a number above 0, not 'many'"),
        ({"rps": "0"}, "rps must be a number above 0, not '0'"),
        ({"rps": "nan"}, "rps must be a number above 0, not 'nan'"),
        ({"query_ms": "-1"}, "query_ms must be a number above 0, not '-1'"),
        ({"wait_ms": "-0.5"}, "wait_ms must be a number, 0 or more, not '-0.5'"),
        ({"busy": "120"}, "busy must be a percentage, 100 at most, not '120'"),
        ({"server_memory": "16g"}, "server_memory must be a number above 0, not '16g'"),
    ],
)
def test_input_that_cannot_be_is_one_line(said, words, problem):
    with pytest.raises(Stop, match=re.escape(problem)):
        said(**words)


@pytest.mark.parametrize(
    ("name", "value"), [("WEB_THREADS", "x"), ("WEB_THREADS", "0"), ("WEB_CPUS", "none"), ("PROXY", "apache")]
)
def test_so_is_a_setting(said, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(Stop, match=rf"^{name} .*'{value}'"):
        said()


def test_the_model_is_within_a_quarter_of_the_measured_curve():
    curve = json.loads((ROOT / "slipway/bench/results/capacity.json").read_text())["curve"]
    assert [(each["replicas"], each["workers"]) for each in curve] == [(1, 1), (2, 1), (4, 1), (1, 2), (1, 4)]
    assert [each for each in curve if abs(each["model"] / each["measured"] - 1) > 0.25] == []
