"""`make ps`: what runs, and a word where the Caddyfile on the disk is not what the proxy serves with."""

import subprocess
import sys

from slipway.commands import doctor

if __name__ == "__main__":
    listing = subprocess.run(["docker", "compose", "ps"], cwd=doctor.ROOT, check=False)
    for _, text in doctor.findings_of(doctor.caddyfile):
        print(text)
    sys.exit(listing.returncode)
