"""`make bench`: measures what the template exists for, on real containers, against references in the same run.

ONLY=images,starts measures some; ROUNDS and SECONDS say how often and how long; AGAINST=image measures another image,
or a checkout, beside ours. SMOKE=1 does each thing once, but for the redeploys, which are a test anyway, and writes
nothing. What falls short of targets.toml is printed and is no failure, since a figure is no test.
"""

import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import report
import rig
from measure import Bench

RESULTS = Path(__file__).parent / "results"
TARGETS = Path(__file__).with_name("targets.toml")
MEASUREMENTS = ("images", "rebuilds", "starts", "throughput", "servers", "proxied", "cost", "reloads", "redeploys")


def main() -> None:
    smoke = os.environ.get("SMOKE") == "1"
    every = [name for name in MEASUREMENTS if not (smoke and name == "redeploys")]
    wanted = [name for name in (os.environ.get("ONLY") or ",".join(every)).split(",") if name]
    if unknown := set(wanted) - set(MEASUREMENTS):
        sys.exit(f"make bench: there is no {', '.join(sorted(unknown))}; ONLY takes {', '.join(MEASUREMENTS)}.")
    bench = Bench(rounds=number("ROUNDS", 1 if smoke else 9), seconds=number("SECONDS", 1 if smoke else 3),
                  against=os.environ.get("AGAINST") or None)  # fmt: skip
    say("images are built")
    bench.prepare()
    values: dict[str, list[float]] = {}
    for name in [*wanted, *(["other"] if bench.against else [])]:
        begun = time.monotonic()
        values |= getattr(bench, name)()
        say(f"{name} measured", f"{time.monotonic() - begun:.0f} s")
    table = report.rows(tomllib.loads(TARGETS.read_text()), values)
    print(report.markdown(table, values, rig.machine()))
    if not smoke and wanted == list(MEASUREMENTS):
        report.write(RESULTS, table, values, rig.machine())
        say(f"written to {RESULTS.relative_to(rig.ROOT)}")
    for row in table:
        if not row.kept:
            say(f"falls short: {row.what}: {report.shown(row.median)} {row.unit}, wanted {row.target}")


def number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdigit() or not int(text):
        sys.exit(f"make bench: {name} must be a whole number above 0, not {text!r}.")
    return int(text)


def say(*words: str) -> None:
    print("bench:", *words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"make bench: {error}")
