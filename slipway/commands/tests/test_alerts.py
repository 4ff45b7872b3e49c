"""The alerts: each has a section of the runbook, and tests of when it fires and when not."""

import re

import yaml

from slipway.commands import ROOT

FOLDER = ROOT / "docker/observe"
RULES = [rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]]
RUNBOOK = (ROOT / "docs/runbook.md").read_text()


def test_each_alert_has_a_section_of_the_runbook_that_it_links_to_and_each_section_an_alert():
    names = [rule["alert"] for rule in RULES]
    assert re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE) == names
    for rule in RULES:
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_each_section_says_what_the_alert_means_what_to_look_at_and_what_to_do_by_commands():
    for section in RUNBOOK.split("\n## ")[1:]:
        name, meaning, *_ = section.split("\n\n")
        look, do = section.split("\n- **Look**: ")[1].split("\n- **Do**: ")
        assert len(meaning) > 40, name
        assert "`" in look or "$ " in look, name
        assert "`" in do, name


def test_each_command_of_the_runbook_is_one():
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "slipway/Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake\s+([a-z-]+)", RUNBOOK)) <= verbs


def test_each_alert_has_a_severity_a_summary_and_a_time_that_a_moment_does_not_last():
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"]["summary"]
        assert rule["for"] != "0s"


def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not():
    tests = yaml.safe_load((FOLDER / "rules.test.yml").read_text())["tests"]
    seen = {(each["alertname"], bool(each["exp_alerts"])) for test in tests for each in test["alert_rule_test"]}
    assert seen == {(rule["alert"], fires) for rule in RULES for fires in (True, False)}
