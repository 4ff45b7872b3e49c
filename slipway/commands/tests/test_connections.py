"""Whether Postgres accepts the connections that the services may open, and the message if it does not."""

import pytest

from chassis.server import sizing
from slipway.commands import doctor
from slipway.commands.shared import connections, dotenv, inventory
from slipway.commands.shared.inventory import Service
from slipway.proofs.harness import ROOT

WEBS = [Service(name) for name in ("web", "billing", "search", "shop")]


@pytest.fixture
def settings_file(tmp_path, monkeypatch):
    """The default settings, and a `.env` that can be written."""
    for name in ("DATABASE_CONNECTIONS", "WEB_THREADS", "WEB_CONCURRENCY", "WEB_CPUS", "WEB_MEMORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dotenv, "FILE", tmp_path / ".env")
    monkeypatch.setattr(connections, "ROOT", tmp_path)
    (tmp_path / ".env.example").write_text((ROOT / ".env.example").read_text())
    (tmp_path / "compose").mkdir()
    return lambda text: (tmp_path / ".env").write_text(text)


def services(monkeypatch, *them):
    monkeypatch.setattr(inventory, "all", lambda: list(them))


def test_two_services_fit_and_the_third_is_said_to_be_too_many_with_what_to_set(settings_file, monkeypatch):
    services(monkeypatch, *WEBS[:2], Service("alone", "asgi", database=False), Service("late", "script"))
    assert connections.problem() is None
    services(monkeypatch, *WEBS[:2], Service("live", "asgi"))  # whose sessions have a thread each, too
    assert "billing, live may open 108 connections together" in connections.problem()
    services(monkeypatch, *WEBS[:3])
    assert "billing, search may open 108 connections together, and Postgres takes 100" in connections.problem()
    assert "set DATABASE_CONNECTIONS=120 in .env" in connections.problem()
    assert list(doctor.database_connections()) == [(doctor.HINT, connections.problem())]
    settings_file("DATABASE_CONNECTIONS=120\n")
    assert connections.problem() is None
    settings_file("DATABASE_URL=postgresql://db.example\n")
    assert "set DATABASE_CONNECTIONS=120 in .env and have Postgres there take as many" in connections.problem()


def test_threads_workers_and_what_a_services_own_file_says_are_counted(settings_file, monkeypatch, tmp_path):
    services(monkeypatch, WEBS[0], Service("digest", "worker"))
    settings_file("WEB_THREADS=15\nWEB_CONCURRENCY=3\n")
    assert "web, digest may open 97 connections" in connections.problem()
    (tmp_path / "compose/web.yaml").write_text("    environment:\n      WEB_THREADS: 4\n")
    assert connections.problem() is None


@pytest.mark.parametrize(("cpus", "memory"), [("1", "512m"), ("2", "512m"), ("2", "100m"), ("0.5", "1g")])
def test_workers_are_counted_as_the_server_counts_them(settings_file, monkeypatch, cpus, memory):
    settings_file(f"WEB_CPUS={cpus}\nWEB_MEMORY={memory}\n")
    monkeypatch.setattr(connections.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(sizing, "cpus", lambda: float(cpus))
    monkeypatch.setattr(sizing, "memory", lambda: connections.number("WEB_MEMORY", unit="([bkmg]?)b?"))
    assert connections.workers(WEBS[0]) == sizing.workers()


@pytest.mark.parametrize(("line", "said"), [("DATABASE_CONNECTIONS=2000", "from 11 to 900"), ("WEB_THREADS=x", "'x'")])
def test_a_setting_that_cannot_be_is_named(settings_file, monkeypatch, line, said):
    services(monkeypatch, WEBS[0])
    settings_file(f"{line}\n")
    assert line.split("=")[0] in connections.problem()
    assert said in connections.problem()
