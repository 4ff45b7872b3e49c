"""The Makefile's verbs and the program behind them."""

import importlib
import inspect
import re
import subprocess

import pytest

from slipway.commands import ROOT, __main__
from slipway.commands.shared.stop import Stop

MAKEFILE = (ROOT / "slipway/Makefile").read_text()
CALLS = re.findall(r"\$\((?:run|installed)\) ([a-z-]+)(.*)$", MAKEFILE, re.MULTILINE)


def function(verb):
    module, name = __main__.VERBS[verb].split(".")
    return getattr(importlib.import_module(f"slipway.commands.{module}"), name)


def test_each_recipe_calls_a_verb_that_there_is_with_words_that_it_takes():
    assert {verb for verb, _ in CALLS} | {"docs-check"} == __main__.VERBS.keys()
    for verb, words in CALLS:
        given = " ".join(re.findall(r"call given,([\w ]+)", words)).split() + re.findall(r"(\w+)=", words)
        assert set(given) <= inspect.signature(function(verb)).parameters.keys(), verb


def test_bare_make_prints_the_verbs_of_every_day_and_help_all_every_verb():
    everyday = re.search(r"^EVERYDAY := (.*)$", MAKEFILE, re.MULTILINE)[1].split()
    assert printed() == sorted(everyday)
    assert printed("help-all") == sorted(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))


def printed(*verb):
    said = subprocess.run(["make", *verb], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(re.findall(r"^  make ([a-z-]+) ", said, re.MULTILINE))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Stop("no disk, buy one"), "make doctor: no disk, buy one."),
        (Stop("ends with its stop."), "make doctor: ends with its stop."),
        (PermissionError(13, "Permission denied", "secrets/x"), "make doctor: secrets/x: Permission denied."),
        (KeyboardInterrupt(), "\nmake doctor: interrupted."),
    ],
)
def test_what_stops_a_verb_is_one_line(monkeypatch, error, said):
    def doctor():
        raise error

    monkeypatch.setattr("slipway.commands.doctor.doctor", doctor)
    with pytest.raises(SystemExit) as ended:
        __main__.main("doctor")
    assert ended.value.code == said


def test_every_job_that_waits_for_the_roles_starts_without_them_where_postgres_is_elsewhere():
    """Those of the services, and of each that `make service` adds."""
    files = [*ROOT.glob("compose/*.yaml"), *ROOT.glob("slipway/templates/service/compose/*.yaml.jinja")]
    production = [path.read_text() for path in files if ".dev.yaml" not in path.name]
    waits = re.findall(r"^ +roles: \{ condition: .*$", "\n".join(production), re.MULTILINE)
    assert len(waits) > 1
    assert all("required: false }" in line for line in waits)
