"""`make bench` keeps each finished measurement, whatever happens to the others."""

import importlib
import json
import subprocess
import sys

import pytest

from slipway.commands import ROOT

BENCH = ROOT / "slipway/bench"
FIGURES = {"images": "added_mb", "redeploys": "caddy_redeploy_failed"}  # some of the figures that have a target


class Bench:
    """`run(…)` measures instantly; `says` is what the measurement of that name does instead of returning a figure."""

    def __init__(self, module, home, monkeypatch, capsys):
        self.module, self.monkeypatch, self.capsys = module, monkeypatch, capsys
        self.results, self.kept = home / "results", home / "kept.json"

    def run(self, version="1.2.3", *, says=None, **settings):
        """The status, and what was written to stdout and stderr."""

        class Fake:
            against = None

            def __init__(self, **_):
                pass

            def prepare(self):
                pass

            def __getattr__(self, name):
                return (says or {}).get(name, lambda: {FIGURES.get(name, name): [1.0]})

        with self.monkeypatch.context() as patch:
            for name in ("ONLY", "ROUNDS", "SECONDS", "SMOKE", "AGAINST"):
                patch.delenv(name, raising=False)
            for name, value in {"VERSION": version, **settings}.items():
                patch.setenv(name, value)
            patch.setattr(self.module, "Bench", Fake)
            patch.setattr(self.module, "RESULTS", self.results)
            patch.setattr(self.module, "KEPT", self.kept)
            patch.setattr(self.module.rig, "machine", lambda: "a machine")
            try:
                status = self.module.main()
            except SystemExit as leaving:
                status = leaving.code
        return status, *self.capsys.readouterr()

    def figures(self):
        return json.loads((self.results / "bench.json").read_text())["values"]


@pytest.fixture
def modules(monkeypatch):
    """The modules of bench/, for the duration of a test: a service may have the name of one of them."""
    names = [path.stem for path in BENCH.glob("*.py")]
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(BENCH)
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def bench(modules, monkeypatch, capsys, tmp_path):
    return Bench(modules("run"), tmp_path, monkeypatch, capsys)


def fails(error):
    def measure():
        raise error

    return measure


def script(text):
    return lambda: subprocess.run(["bash", "-c", text], check=True, capture_output=True)


NOTHING = fails(AssertionError())
REASONS = {
    "images": (NOTHING, "AssertionError"),
    "rebuilds": (script("echo first >&2; echo the disk is full >&2; exit 1"), "the disk is full"),
    "starts": (script("exit 1"), "Command '['bash', '-c', 'exit 1']' returned non-zero exit status 1."),
    "cost": (fails(AssertionError("make x: exit 2\n\nno image\nmake: *** [Makefile:1: x] Error 1\n")), "no image"),
    "throughput": (fails(KeyError("rate")), "KeyError: 'rate'"),
    "reloads": (fails(SystemExit("the edit was not served")), "the edit was not served"),
}


def test_a_whole_run_is_written(bench):
    status, *_ = bench.run()
    assert status is None
    assert bench.figures()["added_mb"] == [1.0]


def test_what_fails_is_a_line_with_its_reason_and_the_others_go_on(bench):
    status, said, told = bench.run(says={name: measure for name, (measure, _) in REASONS.items()})
    failed = [line.removeprefix("bench: ") for line in told.splitlines() if " failed: " in line]
    assert sorted(failed) == sorted(f"{name} failed: {reason}" for name, (_, reason) in REASONS.items())
    assert "| redeploy under load, Caddy: failed requests | 1.00" in said
    assert status == "make bench: failed: images, rebuilds, starts, throughput, cost, reloads."


def test_an_incomplete_run_leaves_the_results_and_says_how_to_complete_them(bench):
    bench.run()
    before = {path.name: path.read_bytes() for path in bench.results.iterdir()}
    _, _, told = bench.run("1.2.4", says={"images": NOTHING})
    assert {path.name: path.read_bytes() for path in bench.results.iterdir()} == before
    assert "`make bench ONLY=images` completes it" in told


def test_a_rerun_of_what_failed_completes_the_results(bench):
    bench.run(says={"images": NOTHING, "starts": NOTHING})
    assert bench.run(ONLY="starts")[0] is None
    assert not bench.results.exists()
    assert bench.run(ONLY="images")[0] is None
    assert {"added_mb", "rebuilds", "starts", "caddy_redeploy_failed"} <= bench.figures().keys()


def test_figures_of_another_version_or_of_other_rounds_complete_nothing(bench):
    for change in ({"version": "1.2.4"}, {"ROUNDS": "2"}):
        bench.run(says={"images": NOTHING})
        bench.run(**change, ONLY="images")
        assert not bench.results.exists()


def test_what_was_measured_before_an_interrupt_is_kept(bench):
    with pytest.raises(KeyboardInterrupt):
        bench.run(says={"redeploys": fails(KeyboardInterrupt())})
    bench.run(ONLY="redeploys")
    assert "added_mb" in bench.figures()


def test_a_smoke_writes_nothing_and_fails_by_what_failed(bench):
    assert bench.run(SMOKE="1")[0] is None
    assert bench.run(SMOKE="1", says={"images": NOTHING})[0] == "make bench: failed: images."
    assert not bench.results.exists()
    assert not bench.kept.exists()


@pytest.mark.parametrize(
    ("stdout", "stderr", "said"),
    [
        ("F\nFAILED tests/x.py::test_y - 3 failed\n1 failed in 9 s\n", "", "FAILED tests/x.py::test_y - 3 failed"),
        ("", "ERROR: REQUIRE is set, and no engine answers\n\n", "ERROR: REQUIRE is set, and no engine answers"),
        ("no tests ran in 0.1 s\n", "", "no tests ran in 0.1 s"),
        ("", "", "pytest ended with status 4"),
    ],
)
def test_a_test_that_measures_says_why_it_could_not(modules, stdout, stderr, said):
    assert modules("measure").complaint(subprocess.CompletedProcess([], 4, stdout, stderr)) == said
