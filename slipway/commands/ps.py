"""`make ps`: what runs, and a note if the proxy's configuration on the disk is not the one that it serves with."""

import subprocess

from slipway.commands import ROOT, doctor
from slipway.commands.shared.compose import PRODUCTION


def ps() -> int:
    listing = subprocess.run([*PRODUCTION, "ps"], cwd=ROOT, check=False)
    for _, text in doctor.findings_of(doctor.proxy_configuration):
        print(text)
    return listing.returncode
