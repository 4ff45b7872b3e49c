"""`make prove`: every promise, on real containers and in a browser; `p=deploy` for one area, `p=all` with those beyond
one machine, args=… for pytest.

Tests that do not depend on timing run in two processes, then those marked `alone` run with nothing beside them.
.cache/prove.html reports on the run while it goes on, and however it ends.
"""

import argparse
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from slipway.commands.shared import engine, proof
from slipway.commands.shared.stop import Stop
from slipway.proofs import harness, needs
from slipway.proofs.harness import ROOT

PROOFS = ("slipway/proofs/", "tests/")
RECORD, PAGE = ROOT / ".cache/prove.jsonl", ROOT / ".cache/prove.html"
# Of the files that take minutes, the longest start first, so that the end of the run waits for none of them.
SLOWEST = (
    "test_machines",
    "test_service",
    "test_bundles",
    "test_remove_sample",
    "test_tutorial",
    "test_dev",
    "test_abuse",
    "test_contract",
)
TWO_PROCESSES = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
# Several machines: minutes each, for those who work on them. PROVE=all has CI run them, too.
BEYOND = ("swarm", "kubernetes", "elsewhere")
RENEWED = 15  # seconds between updates of the page


def prove(p: str = "", args: str = "") -> bool:
    """Proves every promise, or those of the area `p`, with arguments for pytest. Returns whether one is not kept."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if a shell has started this in the background
    words = shlex.split(args)
    targets = chosen(p)
    machine, missing = needed_and_there()
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.unlink(missing_ok=True)
    scope = [f"p={shlex.quote(p)}"] if p not in ("", "all") else []
    scope += [f"args={shlex.quote(shlex.join(words))}"] if words else []
    run = proof.Run(RECORD, " ".join(scope), machine)
    try:
        good = proved(run, targets, missing, words)
        run.ended = True
    except KeyboardInterrupt:
        good = False
    tell(run)
    summarize(run)
    return not good


def chosen(p: str) -> list[str]:
    """The arguments for pytest: files, folders and tests' ids."""
    if p in ("", "all"):  # includes tests of a service or a library that prove a promise
        others = (id for id in proof.named() if not id.startswith(PROOFS) and (ROOT / file_of(id)).exists())
        left_out = [f"--ignore=slipway/proofs/{area}" for area in BEYOND if not p]
        return [*(folder for folder in PROOFS if (ROOT / folder).exists()), *others, *left_out]
    areas: dict[str, dict[str, None]] = {}
    for path in sorted(path for folder in PROOFS for path in (ROOT / folder).rglob("test_*.py")):
        for name in {path.parent.name, path.stem.removeprefix("test_")} - {"tests"}:
            areas.setdefault(name, {})[path.relative_to(ROOT).as_posix()] = None
    if p in areas:
        return list(areas[p])
    if (ROOT / file_of(p)).exists():
        return [Path(os.path.relpath(ROOT / file_of(p), ROOT)).as_posix() + p.removeprefix(file_of(p))]
    raise Stop(f"p={p} is no test and no area. The areas are {', '.join(sorted(areas))}")


def file_of(id: str) -> str:
    return id.partition("::")[0]


def needed_and_there() -> tuple[dict[str, str], dict[str, str]]:
    """Prints what tests need, and whether it is there. Returns the machine's facts, and the problem with each need."""
    missing = needs.missing()
    has = {}
    if "engine" not in missing:
        has["engine"] = version_of_engine()
        if problem := engine.images_problem():
            missing["engine"] = problem
        else:
            has["base images"] = ", ".join(engine.bases())
    if "browser" not in missing and (chromium := harness.chromium()):
        has["browser"] = said(chromium, "--version") or chromium
    has |= {name: f"none: {problem}" for name, problem in missing.items()}
    for name, fact in has.items():
        print(f"{name:12} {fact}", flush=True)
    if problem := needs.refusal(missing):
        raise Stop(problem)
    commit = said("git", "describe", "--tags", "--always", "--dirty")
    return {"commit": commit, "system": system(), "python": platform.python_version(), **has}, missing


def version_of_engine() -> str:
    with suppress(engine.NoAnswer):
        docker = engine.run("docker", "version", "--format", "{{.Server.Version}}").stdout.strip()
        compose = engine.run("docker", "compose", "version", "--short").stdout.strip()
        return f"Docker {docker}, Compose {compose}"
    return "slow to answer"


def system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.platform(terse=True)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB of memory"


def said(*command: str) -> str:
    """What a program prints, in one line; empty if it can't be run."""
    with suppress(OSError, subprocess.SubprocessError):
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
        return " ".join(run.stdout.split())
    return ""


def proved(run: proof.Run, targets: list[str], missing: dict[str, str], args: list[str]) -> bool:
    """Runs the chosen tests, those that must run alone last; returns whether all of them passed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-m", default="")
    given, others = parser.parse_known_args(args)
    pytest = [sys.executable, "-m", "slipway.proofs.record", str(RECORD), json.dumps(missing), "-q", "-rN"]

    collected = subprocess.run(
        [*pytest, *args, "-n0", "--collect-only", *targets], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if collected.returncode == 5:
        raise Stop("no test fits")
    if collected.returncode:
        print(collected.stdout + collected.stderr)
        return False
    run.read()
    planned, codes = run.tests, []
    for alone in (False, True):
        tests = [test for test in planned if test.alone == alone]
        files = sorted({test.file for test in tests}, key=turn)
        if not files:
            continue
        ids = [target for target in targets if "::" in target and file_of(target) in files]
        whole = [file for file in files if file not in map(file_of, ids)]
        marks = " and ".join(filter(None, [given.m and f"({given.m})", "alone" if alone else "not alone"]))
        split = [] if alone or len(files) == 1 else TWO_PROCESSES
        print(f"\nTests {'in two processes' if split else 'one after the other'}: {len(tests)}", flush=True)
        tell(run)
        codes.append(waited_for(run, [*pytest, *split, *others, "-m", marks, *whole, *ids]))
        if codes[-1] == 2:  # told to end, by -x for example
            break
    return not any(codes)


def turn(file: str) -> tuple[int, str]:
    stem = Path(file).stem
    return SLOWEST.index(stem) if stem in SLOWEST else len(SLOWEST), file


def waited_for(run: proof.Run, command: list[str]) -> int:
    with subprocess.Popen(command, cwd=ROOT) as process:
        while True:
            try:
                return process.wait(RENEWED)
            except subprocess.TimeoutExpired:
                tell(run)
            except KeyboardInterrupt:
                tell(run)
                process.wait()  # Ctrl-C has reached it, too, and it stops what it has started
                raise


def tell(run: proof.Run) -> None:
    run.read()
    PAGE.write_text(run.page())


def summarize(run: proof.Run) -> None:
    if run.slowest:
        print("\nThe slowest tests")
    for test in run.slowest:
        print(f"{test.seconds:7.1f} s  {test.id}")
    for test in run.failed:
        promise = run.promise_of(test)
        what = f"{promise.number} {promise.text}" if promise else test.plain
        print(f"\nFAILED {what}: {test.reason}\n       {test.command}")
    kept = f"{run.headline}. " if run.judged else ""
    print(f"\n{kept}{run.counts}, in {run.duration}. {PAGE.relative_to(ROOT)} shows all of it")
