"""Every figure of `make bench`: each function measures some and returns their values, one for each round.

A figure that is a ratio compares measurements taken right after each other: ours, then the reference, and again.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

from slipway.bench import proxies, rig
from slipway.bench.rig import ROOT, Candidate, Rig, docker
from slipway.proofs.harness import copy_tree

Values = dict[str, list[float]]  # by the figure's name, one value for each round

SOURCE = "services/web/src/web/app.py"
REDEPLOYS = {
    "caddy": "test_deploy.py::test_three_deploys_under_load_fail_no_request",
    "nginx": "test_proxies.py::test_a_deploy_under_load_through_nginx_fails_no_request",
}
FLOOD = "test_abuse.py::test_a_flood_of_reset_streams_fails_no_other_request_and_takes_less_than_half_of_the_memory"
NEW_DEPENDENCY = "iniconfig"  # small, pure, and in the lock already


class Bench:
    """The images to measure, and for how long and how often."""

    def __init__(self, rounds: int, seconds: int, against: str | None = None) -> None:
        self.rounds, self.seconds, self.against = rounds, seconds, against
        self.full, self.minimal = "slipway/bench-web:full", "slipway/bench-web:minimal"
        self.reference = Candidate("reference", rig.REFERENCE)
        self.ours = rig.own("ours", self.full)

    def prepare(self) -> None:
        rig.build_references()
        rig.build(ROOT, self.full)
        rig.build(ROOT, self.minimal, variant="minimal")

    def images(self) -> Values:
        base = rig.BASE
        return {
            "added_mb": [rig.megabytes(self.full) - rig.megabytes(base)],
            "added_compressed_mb": [rig.compressed(self.full) - rig.compressed(base)],
            "minimal_mb": [rig.megabytes(self.minimal)],
            "minimal_compressed_mb": [rig.compressed(self.minimal)],
        }

    def other(self) -> Values:
        """AGAINST: another image or checkout, as far as it can be measured: its size, and its first answer on /."""
        image = self.against
        if Path(image).is_dir():
            image = rig.build(Path(image), "slipway/bench-against")
        elif not rig.exists(image):
            raise AssertionError(f"there is no image and no folder {image}: AGAINST names one that is here")
        each = Candidate("against", image, options=("--env=SECRET_KEY=0123456789abcdef0123456789abcdef",))
        with Rig() as stage:
            took = [stage.seconds_to_first_answer(each, "/") * 1e3 for _ in range(self.rounds)]
            container = stage.start(each, path="/")
            idle = rig.memory(container)
        return {
            "against_mb": [rig.megabytes(image)],
            "against_compressed_mb": [rig.compressed(image)],
            "against_start_ms": took,
            "against_memory_idle_mib": [idle],
        }

    def rebuilds(self) -> Values:
        """A copy of the tree is built, edited and built again."""
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            tree, tag = copy_tree(Path(directory)), "slipway/bench-web:rebuilt"
            try:
                return {**self.after_source_edits(tree, tag), **self.after_a_dependency(tree, tag)}
            finally:
                docker("image", "rm", "--force", tag)

    def after_source_edits(self, tree: Path, tag: str) -> Values:
        source, times, stored, sent = tree / SOURCE, [], [], []
        for _ in range(self.rounds):
            before = rig.layers(rig.build(tree, tag))
            unchanged = timed(lambda: rig.build(tree, tag))
            source.write_text(source.read_text() + f"\n# edit {time.time_ns()}\n")
            times.append(timed(lambda: rig.build(tree, tag)) / unchanged)
            changed = rig.size(tag, rig.layers(tag) - before)
            stored.append(changed[0])
            sent.append(changed[1])
        return {"source_edit_time": times, "source_edit_mb": sent, "source_edit_stored_mb": stored}

    def after_a_dependency(self, tree: Path, tag: str) -> Values:
        before = rig.layers(rig.build(tree, tag))
        project = tree / "services/web/pyproject.toml"
        project.write_text(project.read_text().replace('["chassis', f'["{NEW_DEPENDENCY}", "chassis', 1))
        uv = subprocess.run(["make", "--silent", "print-uv"], cwd=ROOT, capture_output=True, text=True, check=True)
        environment = {**os.environ, "UV_PYTHON": sys.executable}
        lock = [ROOT / uv.stdout.strip(), "lock", "--quiet"]
        subprocess.run(lock, cwd=tree, env=environment, capture_output=True, check=True)
        return {"dependency_layers": [len(rig.layers(rig.build(tree, tag)) - before)]}

    def starts(self) -> Values:
        with Rig() as stage:
            stage.migrate(self.full)
            pairs = [
                (stage.seconds_to_first_answer(self.ours), stage.seconds_to_first_answer(self.reference))
                for _ in range(self.rounds)
            ]
        return {
            "start": [ours / reference for ours, reference in pairs],
            "start_ours_ms": [ours * 1e3 for ours, _ in pairs],
            "start_reference_ms": [reference * 1e3 for _, reference in pairs],
        }

    def throughput(self) -> Values:
        """Requests, CPU and memory of one replica, without a proxy."""
        values: Values = {}
        with Rig() as stage:
            names = {each.name: stage.start(each) for each in (self.ours, self.reference)}
            idle = {name: rig.memory(container) for name, container in names.items()}
            for route in ("hello", "query"):
                urls = {name: f"http://{names[name]}:8000/bench/{route}" for name in names}
                self.compare(values, stage, route, names, urls)
            loaded = {name: rig.memory(container) for name, container in names.items()}
        for state, used in (("idle", idle), ("loaded", loaded)):
            values[f"memory_{state}"] = [used["ours"] / used["reference"]]
            values[f"memory_{state}_mib"] = [used["ours"]]
        return values

    def proxied(self) -> Values:
        """Our proxies beside plain ones."""
        return proxies.measure(self.ours, self.full, self.rounds, self.seconds)

    def compare(self, values: Values, stage: Rig, what: str, containers: dict[str, str], urls: dict[str, str]) -> None:
        for name, url in urls.items():
            stage.load(containers[name], url, 1)  # warm
        for _ in range(self.rounds):
            seen = {name: stage.load(containers[name], url, self.seconds) for name, url in urls.items()}
            ours, reference = seen["ours"], seen["reference"]
            for figure, value in (
                ("rate", ours.rate / reference.rate),
                ("p99", ours.p99 / reference.p99),
                ("rate_ours", ours.rate),
                ("rate_reference", reference.rate),
                ("cpu_ours", ours.cpu),
                ("cpu_reference", reference.cpu),
            ):
                values.setdefault(f"{what}_{figure}", []).append(value)

    def cost(self) -> Values:
        said = docker("run", "--rm", "--network=none", f"--volume={rig.HERE}:/bench:ro",
                      "--env=SECRET_KEY=0123456789abcdef0123456789abcdef", "--env=TRUSTED_PROXIES=1",
                      "--env=DATABASE_URL=postgresql://none:nothing-here@127.0.0.1:1/none",
                      self.full, "python", "/bench/cost.py", str(self.rounds))  # fmt: skip
        return json.loads(said.splitlines()[-1])

    def traces(self) -> Values:
        """On the host, since images have the SDK only with EXTRAS=traces."""
        command = [sys.executable, "-m", "slipway.bench.traces", str(self.rounds)]
        said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        return {f"traces_{name}": [value] for name, value in json.loads(said).items()}

    def redeploys(self) -> Values:
        """Redeploys under load and floods, through each proxy; the tests that prove them say what they saw."""
        values: Values = {}
        for kind, test in REDEPLOYS.items():
            said = figures_of(test)
            numbers = re.findall(r"[\d.]+(?= requests| failed| s$)", said["figure"])
            for figure, value in zip(("requests", "failed", "p99"), numbers, strict=True):
                values[f"{kind}_redeploy_{figure}"] = [float(value)]
            values[f"{kind}_deploy"] = [float(said["deploy"])]
            numbers = re.findall(r"[\d.]+(?= s,|;| %)", figures_of(f"{FLOOD}[{kind}]")["figure"])
            for figure, value in zip(("median", "slowest", "memory"), numbers, strict=True):
                values[f"{kind}_flood_{figure}"] = [float(value)]
        return values

    def reloads(self) -> Values:
        """In containers, where an edit takes the longest path."""
        from slipway.bench import reload

        took = reload.measure("docker", max(self.rounds, 2))
        return {"reload_ms": took["Python"], "reload_template_ms": took["template"], "reload_style_ms": took["style"]}


def figures_of(test: str) -> dict[str, str]:
    """What the test recorded. Raises AssertionError if it fails."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        report = Path(directory) / "report.xml"
        command = [sys.executable, "-m", "pytest", f"slipway/proofs/stack/{test}", "-q", f"--junitxml={report}"]
        environment = {**os.environ, "REQUIRE": "engine"}
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if run.returncode:
            raise AssertionError(complaint(run))
        properties = ElementTree.parse(report).iter("property")  # noqa: S314 - pytest wrote it
        return {each.get("name", ""): each.get("value", "") for each in properties}


def complaint(run: subprocess.CompletedProcess) -> str:
    """What pytest says about the first test that failed, else its last line."""
    failed = re.search(r"^(?:FAILED|ERROR) .+", run.stdout, re.MULTILINE)
    said = failed[0] if failed else last_line(run.stderr) or last_line(run.stdout)
    return said or f"pytest ended with status {run.returncode}"


def last_line(text: str) -> str:
    """The last informative line: make's own only says that a recipe failed."""
    lines = (line.strip() for line in reversed(text.splitlines()))
    return next((line for line in lines if line and not re.match(r"make(\[\d+\])?: \*\*\*", line)), "")


def timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun
