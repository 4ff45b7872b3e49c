"""`make bench`: measures what the template exists for, on real containers, against references in the same run.

ONLY=images,starts measures some; ROUNDS and SECONDS say how often and how long; AGAINST=image measures another image,
or a checkout, beside ours. SMOKE=1 does each thing once, except the redeploys, which are a test anyway, and writes
nothing. A figure that misses targets.toml is printed and is not a failure, since a figure is not a test.

A measurement that fails prints one line with its reason, and the others go on. Each result is kept in
.cache/bench.json at once; slipway/bench/results is written when one version has all: `ONLY=` measures what is missing.
"""

import json
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from slipway.bench import report, rig
from slipway.bench.measure import Bench, Values, last_line

RESULTS = Path(__file__).parent / "results"
KEPT = rig.ROOT / ".cache/bench.json"
TARGETS = Path(__file__).with_name("targets.toml")
MEASUREMENTS = ("images", "rebuilds", "starts", "throughput", "proxied", "cost", "traces", "reloads", "redeploys")


def main() -> None:
    smoke = os.environ.get("SMOKE") == "1"
    every = [name for name in MEASUREMENTS if not (smoke and name == "redeploys")]
    wanted = [name for name in (os.environ.get("ONLY") or ",".join(every)).split(",") if name]
    if unknown := set(wanted) - set(MEASUREMENTS):
        sys.exit(f"make bench: there is no {', '.join(sorted(unknown))}; ONLY takes {', '.join(MEASUREMENTS)}.")
    rounds, seconds = number("ROUNDS", 1 if smoke else 9), number("SECONDS", 1 if smoke else 3)
    bench = Bench(rounds=rounds, seconds=seconds, against=os.environ.get("AGAINST") or None)
    of = f"{os.environ.get('VERSION', 'unversioned')}, {rounds} rounds of {seconds} s"
    kept = {} if smoke or wanted == every else kept_before(of)
    say("images are built")
    try:
        machine = rig.machine()
        bench.prepare()
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"make bench: {reason(error)}")
    values, failed = {}, []
    for name in [*wanted, *(["other"] if bench.against else [])]:
        begun = time.monotonic()
        try:
            measured = getattr(bench, name)()
        except (Exception, SystemExit) as error:
            say(f"{name} failed: {reason(error)}")
            failed.append(name)
            continue
        say(f"{name} measured, {time.monotonic() - begun:.0f} s")
        values |= measured
        kept[name] = measured
        if not smoke:
            keep(of, kept)
    targets = tomllib.loads(TARGETS.read_text())
    table = report.rows(targets, values)
    print(report.markdown(table, values, machine), flush=True)
    for row in table:
        if not row.kept:
            say(f"falls short: {row.what}: {report.shown(row.median)} {row.unit}, wanted {row.target}")
    missing = [name for name in MEASUREMENTS if name not in kept]
    if not smoke and not missing:
        whole = {figure: each for measured in kept.values() for figure, each in measured.items()}
        report.write(RESULTS, report.rows(targets, whole), whole, machine)
        say(f"written to {RESULTS}")
    elif not smoke and failed:
        say(f"{RESULTS} stays as it was: `make bench ONLY={','.join(missing)}` completes it, at the same version")
    if failed:
        sys.exit(f"make bench: failed: {', '.join(failed)}.")


def kept_before(of: str) -> dict[str, Values]:
    """What earlier runs measured for this version, with the same rounds and seconds, by the measurement's name."""
    return json.loads(KEPT.read_text()).get(of, {}) if KEPT.exists() else {}


def keep(of: str, measured: dict[str, Values]) -> None:
    """Keeps only the latest version's results: those of another version can't be combined with them."""
    KEPT.parent.mkdir(exist_ok=True)
    unfinished = KEPT.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({of: measured}))
    unfinished.replace(KEPT)


def reason(error: BaseException) -> str:
    """One line, never empty: the last one that a subprocess wrote, else the error's own."""
    said = getattr(error, "stderr", None) or (str(error) if str(error) else "")
    text = last_line(said.decode(errors="replace") if isinstance(said, bytes) else said)
    if isinstance(error, AssertionError | OSError | subprocess.SubprocessError | SystemExit) and text:
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdigit() or not int(text):
        sys.exit(f"make bench: {name} must be a whole number above 0, not {text!r}.")
    return int(text)


def say(*words: str) -> None:
    print("bench:", *words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
