"""`make up`: production as `.env` defines it. Standard library only."""

import subprocess
import sys

from slipway.commands import ROOT, deploy, upgrade_postgres
from slipway.commands.shared import database, dotenv, engine
from slipway.commands.shared.compose import PRODUCTION
from slipway.commands.shared.stop import Stop


def up() -> None:
    """Starts the release that `.env` names, without building; if it names none, a release built from this tree."""
    if problem := engine.problem() or engine.images_problem():
        raise Stop(problem)
    if not database.elsewhere():
        upgrade_postgres.refuse_if_due()
    deploy.alone(start)


def start() -> None:
    release = dotenv.in_file().get("TAG")
    if release:
        print(f"Starting release {release}, which .env names; `make deploy` builds this tree.", flush=True)
        deploy.fetch(release)
    command = [*PRODUCTION, "up", "--detach", "--wait", *([] if release else ["--build"])]
    if code := subprocess.run(command, cwd=ROOT, env=deploy.variables(None), check=False).returncode:
        sys.exit(code)
