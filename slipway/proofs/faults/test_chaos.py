"""`make chaos`: under load and faults no acknowledged write is lost or doubled, and each fault keeps its bound."""

import os
import subprocess
import sys
from itertools import islice

import pytest

from slipway.proofs.faults.chaos import FAULTS, Fault, Ledger, Request, Slot, plan

SEED = "834"  # Postgres killed, a replica cut off, a full disk, a replica restarted, one killed, Postgres frozen


@pytest.mark.containers
@pytest.mark.alone
def test_a_minute_of_chaos_loses_and_doubles_no_write_and_every_fault_keeps_its_bound(record_property):
    environment = os.environ | {"CHAOS_SECONDS": "60", "CHAOS_SEED": SEED}
    command = [sys.executable, "-m", "slipway.proofs.faults.chaos"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    print(run.stdout, run.stderr)
    assert run.returncode == 0
    *lines, requests, writes = run.stdout.splitlines()
    faults = [line for line in lines if " at most " in line]
    assert faults
    record_property("figure", f"{len(faults)} faults, {requests}, {writes}")


def test_the_ledger_finds_what_is_missing_doubled_and_stored_without_acknowledgement():
    writes = [Request(number, "POST", 0.0, 503 if number == 4 else 201) for number in range(5)]
    ledger = Ledger([*writes, Request(5, "GET", 0.0, 200)], rows=[0, 1, 1, 3, 4])
    assert (ledger.acknowledged, ledger.missing, ledger.doubled, ledger.unacknowledged) == (4, 1, 1, 1)


def test_a_fault_that_costs_more_than_its_bound_is_over_it_and_refused_writes_cost_nothing():
    said = "The database does not answer"
    refused = [Request(0, "POST", 0.0, 503, said=said), Request(1, "POST", 0.0, 503, said=said)]
    failed = [Request(2, "GET", 0.0, 503, said=said), Request(3, "POST", 0.0, 502, said="Out of reach for the moment")]
    full = Slot(Fault("full", 1, print, refuses=True), [*refused, *failed])
    assert full.failed == failed
    assert full.over
    assert not Slot(Fault("full", 0, print, refuses=True), refused).over
    assert Slot(Fault("other", 1, print), refused).over


def test_a_seed_gives_the_same_faults_again_and_a_round_has_all_kinds():
    first = list(islice(plan(7), 2 * len(FAULTS)))
    assert first == list(islice(plan(7), 2 * len(FAULTS)))
    assert first != list(islice(plan(8), 2 * len(FAULTS)))
    assert {fault.name for fault, _ in first[: len(FAULTS)]} == {fault.name for fault in FAULTS}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"CHAOS_SECONDS": "a minute"}, "SECONDS=a minute is not a whole number"),
        ({"CHAOS_SECONDS": "5"}, "SECONDS=5 has no room for a fault, which takes 8"),
        ({"CHAOS_SEED": "-1"}, "SEED=-1 is not a whole number"),
    ],
)
def test_bad_input_is_one_line(setting, said):
    command = [sys.executable, "-m", "slipway.proofs.faults.chaos"]
    run = subprocess.run(command, env=os.environ | setting, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (1, f"make chaos: {said}\n")
