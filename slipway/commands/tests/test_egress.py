"""What `make egress` makes of `egress` in the services' pyproject.toml, and what it refuses."""

import re
import shutil

import pytest

from slipway.commands import ROOT, deploy, doctor, egress, lint
from slipway.commands.shared import egress as shared
from slipway.commands.shared import inventory
from slipway.commands.shared.inventory import Service
from slipway.commands.shared.stop import Stop

API, HOOKS, DB = "api.example.com:443", "hooks.example.com:443", "db.example.com:5432"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A checkout with the services web and tick, which reach nothing."""
    for module in (shared, inventory):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    for name in ("compose", "docker"):
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "compose.yaml", tmp_path)
    say(tmp_path, "web")
    say(tmp_path, "tick", kind="worker")
    return tmp_path


def say(tree, service, *entries, kind="web"):
    (tree / "services" / service).mkdir(parents=True, exist_ok=True)
    database = str(kind == "web").lower()
    text = f'[tool.slipway]\nkind = "{kind}"\ndatabase = {database}\negress = {list(entries)}\n'
    (tree / "services" / service / "pyproject.toml").write_text(text)


def files(tree):
    return {
        str(path.relative_to(tree)): path.read_text() for path in tree.rglob("*") if path.suffix in (".yaml", ".cfg")
    }


def included(tree):
    return re.findall(r"^      - (\S+)$", (tree / "compose.yaml").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        ((API, HOOKS), ["web-egress"]),
        ((API, DB), ["web-egress", "web-egress-db-example-com"]),
        ((DB, "db.example.com:443"), ["web-egress-db-example-com"]),
        (("a.example.com:5432", "b.example.com:5432"), ["web-egress-a-example-com", "web-egress-b-example-com"]),
    ],
)
def test_hosts_share_a_container_where_a_handshake_tells_them_apart(entries, names):
    assert [way.name for way in shared.ways(Service("web", egress=entries))] == names


def test_a_container_knows_the_hosts_and_ports_of_its_list_alone():
    https, postgres = (shared.haproxy(way) for way in shared.ways(Service("web", egress=(API, HOOKS, DB))))
    assert re.findall(r"bind (\S+)", https) == [":443", "127.0.0.1:8404"]
    assert "reject unless { var(txn.host) -m str api.example.com hooks.example.com }" in https
    assert re.findall(r"bind (\S+)", postgres) == [":5432", "127.0.0.1:8404"]
    assert re.findall(r"[a-z]+\.example\.com", postgres) == ["db.example.com"]


def test_what_serves_works_or_migrates_has_the_way_out():
    assert shared.users(Service("web", migrate="migrate")) == ["web-a", "web-b", "migrate"]
    assert shared.users(Service("page", "static", database=False)) == ["page-a", "page-b"]
    assert shared.users(Service("tick", "worker", database=False)) == ["tick"]
    assert shared.users(Service("report", "script")) == ["report", "report-migrate"]


def test_the_files_follow_what_the_services_say_and_each_command_says_in_one_line_if_they_do_not(
    tree, capsys, monkeypatch
):
    monkeypatch.setattr(deploy.engine, "problem", lambda: None)
    before = files(tree)
    egress.egress()
    assert files(tree) == before
    assert (shared.problem(), lint.has_ways_out(), list(doctor.ways_out())) == (None, True, [])

    say(tree, "web", API, DB)
    say(tree, "tick", "mail.example.com:465", kind="worker")
    line = shared.problem()
    assert re.fullmatch(r"compose/egress.yaml, .+: not what the services' egress says, run make egress", line)
    assert list(doctor.ways_out()) == [(doctor.BAD, line)]
    assert not lint.has_ways_out()
    with pytest.raises(Stop, match=re.escape(line)):
        deploy.check()

    egress.egress()
    assert "web reaches api.example.com:443, db.example.com:5432 outside." in capsys.readouterr().out
    assert shared.problem() is None
    assert included(tree)[-1] == "compose/egress.yaml"
    configs = ["tick-egress-mail-example-com", "web-egress", "web-egress-db-example-com"]
    assert sorted(path.stem for path in (tree / "docker/egress").iterdir()) == configs

    say(tree, "web")
    say(tree, "tick", kind="worker")
    assert shared.problem()
    egress.egress()
    assert files(tree) == before


def test_it_stays_the_last_file_since_it_changes_what_others_define(tree):
    say(tree, "web", API)
    egress.egress()
    text = (tree / "compose.yaml").read_text()
    (tree / "compose.yaml").write_text(text.replace("egress.yaml\n", "egress.yaml\n      - compose/billing.yaml\n"))
    assert shared.problem()
    egress.egress()
    assert included(tree)[-2:] == ["compose/billing.yaml", "compose/egress.yaml"]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ('"api.example.com:443"', "must be a list, such as"),
        ("[443]", "must be a list, such as"),
        ('["api.example.com"]', "must name a host with its port"),
        ('["api.example.com:0"]', "must be a port from 1 to 65535, not '0'"),
        ('["api.example.com:https"]', "must be a port from 1 to 65535, not 'https'"),
        ('["https://api.example.com:443"]', "must name a host with its port"),
        ('["*.example.com:443"]', "must name a host with its port"),
        ('["API.example.com:443"]', "must name a host with its port"),
        ('["192.0.2.1:443"]', "must name a host with its port"),
        ('["[2001:db8::1]:443"]', "must name a host with its port"),
        ('["db:5432"]', "must name a host with its port"),
        ('["api.example.com:443", "api.example.com:0443"]', "names api.example.com:443 twice"),
        (
            '["a-b.example.com:5432", "a.b.example.com:5432"]',
            "names hosts that differ in no more than a dot and a hyphen",
        ),
    ],
)
def test_an_entry_that_could_not_work_is_one_line(tree, entries, said):
    (tree / "services/web/pyproject.toml").write_text(f"[tool.slipway]\negress = {entries}\n")
    with pytest.raises(Stop, match=f"^egress of the service web.*{said}") as stop:
        egress.egress()
    assert "\n" not in str(stop.value)
    assert doctor.findings_of(doctor.ways_out) == [(doctor.BAD, str(stop.value))]
