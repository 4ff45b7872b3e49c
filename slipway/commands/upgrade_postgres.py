"""`make upgrade-postgres`: from a former major version to the one that the release names, keeping all rows.

The old server keeps serving reads while its rows are copied into a new cluster beside its data;
then the new server takes its place. slipway/postgres/upgrade.sh does the work beside the databases.
Standard library only.
"""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

from slipway.commands import ROOT, backup, deploy
from slipway.commands.deploy import compose, step
from slipway.commands.shared import database, engine, lock, registry
from slipway.commands.shared.compose import PRODUCTION, expect, last_line
from slipway.commands.shared.stop import Stop

SCRIPT = "/opt/slipway/postgres/upgrade.sh"
COPY = ("roles", "databases", "analyze")
REFUSED = 3  # psql's exit code if the server refuses a statement


def upgrade_postgres() -> None:
    database.refuse_elsewhere("its provider upgrades it")
    try:
        with lock.production():
            deploy.check()
            wanted = release()
            present(wanted)
            if former := due(wanted):
                upgrade_from(former, wanted)
    except KeyboardInterrupt:
        raise Stop(f"interrupted; {remains()}. Run it again") from None


def upgrade_from(former: str, wanted: str) -> None:
    try:
        upgrade(former, wanted)
    except Stop as failure:
        raise Stop(f"{failure}; {remains(former)}") from None


def upgrade(former: str, wanted: str) -> None:
    began = time.monotonic()
    print(f"upgrade Postgres from {former} to {wanted}", flush=True)
    with step(f"Postgres {former}"):
        serve(former)
    with step("check"):
        old, new = once("check").split()
    print(f"    from {old} to {new}", flush=True)
    with worker() as inside:
        with step("schema"):
            inside(
                "schema",
                refusal=f"Postgres {new} refuses the schema of {old}: {{}};"
                f" use an image of Postgres {wanted} that is newer than the server",
            )
        dump()
        with step(f"Postgres {wanted}"):
            inside("create")
        with frozen() as since:
            for each in COPY:
                with step(each):
                    inside(each)
            with step("compare"):
                tables, rows = map(int, inside("compare").split())
            with step("to disk"):
                inside("finish")
            away = time.monotonic()
            with step("switch"):
                switch(inside, former, wanted)
            ended = time.monotonic()
    with step("app"):
        start_app()
    print(
        f"Postgres {wanted} serves {backup.counted(tables, 'table')} with {backup.counted(rows, 'row')},"
        f" after {time.monotonic() - began:.1f} s; {ended - since:.1f} s without writes, the last"
        f" {ended - away:.1f} s without reads."
    )
    print(kept(former))


def release() -> str:
    """The major version that .env or this release asks for."""
    image = config()["services"]["db"]["image"]
    if not (match := re.search(r"postgres:(\d+)", image)):
        raise Stop(f"the image {image} does not say its major version: postgres:18-trixie would")
    return match[1]


def config() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(compose("config", "--format", "json").stdout)
    return found


def present(major: str) -> None:
    """Pulls the image, unless it is here, before anything is touched."""
    names = compose("config", "--images", "db", POSTGRES_MAJOR=major).stdout.split()
    if missing := [name for name in names if "postgres:" in name and not registry.exists(name)]:
        run = compose("pull", "db", POSTGRES_MAJOR=major)
        expect(run, f"there is no image {missing[0]} here, and it can't be pulled")


def due(wanted: str) -> str | None:
    """The version to upgrade from; if there is nothing to do, prints that."""
    found = [line.split()[0] for line in once("found").splitlines()]
    former = [major for major in found if major != wanted]
    if wanted in found or not former:
        print(f"There is nothing to do: the data is Postgres {wanted}'s." if found else "There is no data to upgrade.")
        for major in former:
            print(kept(major))
        return None
    if int(former[-1]) > int(wanted):
        raise Stop(f"the data is Postgres {former[-1]}'s, later than {wanted}: there is no way back but a backup")
    return former[-1]


def kept(major: str) -> str:
    return f"Postgres {major}'s data is kept as it was. To be rid of it: docker compose exec db {SCRIPT} forget {major}"


def serve(major: str) -> None:
    """Leaves the old server alone if it runs; else this release starts it on its data."""
    if running() != major:
        present(major)
        start(major)


def running() -> str | None:
    """The major version of the database that serves now."""
    ask = compose("exec", "-T", "db", "sh", "-c", "pg_isready -qh 127.0.0.1 && echo $PG_MAJOR")
    return ask.stdout.strip() or None


def start(major: str) -> None:
    run = compose("up", "--detach", "--no-deps", "--wait", "db", POSTGRES_MAJOR=major)
    if run.returncode:
        said = last_line(compose("logs", "--no-log-prefix", "--tail", "5", "db").stdout)
        raise Stop(f"Postgres {major} does not start: {said}")


def dump() -> None:
    """A verified backup of each service's database, by `make backup`."""
    for path in sorted((ROOT / "secrets").glob("*_owner_password")):
        said = StringIO()
        with step("backup"), redirect_stdout(said):
            backup.dump_to_file(path.name.removesuffix("_owner_password"))
        print(f"    {said.getvalue().strip()}", flush=True)


@contextmanager
def frozen() -> Iterator[float]:
    """Keeps the old server from taking writes until this ends, however it ends: a process beside it waits for us."""
    command = [*PRODUCTION, "exec", "-T", "db", SCRIPT, "freeze"]
    with step("no writes"):
        since = time.monotonic()
        holder = subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert holder.stdout  # a pipe, as requested
        if holder.stdout.readline().strip() != "frozen":
            raise Stop(f"the old server can't be kept from writing: {backup.reason(holder.communicate()[1])}")
    try:
        yield since
    finally:
        holder.communicate()


@contextmanager
def worker() -> Iterator[Callable[..., str]]:
    """Starts a container of the new version beside the old server, on the same volume; yields what runs a step."""
    name = f"{config()['name']}-upgrade"
    engine.run("docker", "rm", "--force", "--volumes", name)  # left by a run that was killed
    run = compose("run", "--detach", "--no-deps", "--name", name, "--entrypoint", "sleep", "db", "infinity")
    expect(run, "the new version's container does not start")

    def inside(action: str, refusal: str | None = None) -> str:
        run = subprocess.run(["docker", "exec", name, SCRIPT, action], capture_output=True, text=True)
        if refusal and run.returncode == REFUSED:
            raise Stop(refusal.format(reason(run)))
        return done(run, action)

    try:
        yield inside
    finally:
        engine.run("docker", "rm", "--force", "--volumes", name)


def once(action: str) -> str:
    return done(compose("run", "--rm", "--no-deps", "-T", "--entrypoint", SCRIPT, "db", action), action)


def done(run: subprocess.CompletedProcess[str], action: str) -> str:
    if run.returncode:
        raise Stop(f"the step {action} failed: {reason(run)}")
    return run.stdout


def reason(run: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in run.stderr.splitlines() if not re.match(r"\s*(Container|Network|Volume) ", line)]
    return backup.reason("\n".join(lines))


def switch(inside: Callable[..., str], former: str, wanted: str) -> None:
    """Stops the old server before the new cluster takes its place: at no moment could both be written to."""
    try:
        expect(compose("stop", "db"), "the old server does not stop")
        inside("adopt")
        start(wanted)
    except BaseException:
        compose("stop", "db")
        once("discard")
        start(former)
        raise


def start_app() -> None:
    """Starts what is not running and leaves the rest, except `backup`: a dump needs the server's own version."""
    run = compose("up", "--detach", "--no-recreate", "--wait")
    if run.returncode:
        log = compose("logs", "--no-log-prefix", "--tail", "20", *deploy.jobs()).stdout
        said = f"{last_line(run.stderr)}: {deploy.last_message(log) or last_line(log)}"
        raise Stop(f"Postgres is upgraded, but the app does not start: {said}")
    if "backup" in config()["services"]:
        expect(compose("up", "--detach", "--no-deps", "backup"), "Postgres is upgraded, but the backups do not start")


def remains(former: str | None = None) -> str:
    """What serves after a failure, for the error message."""
    major = running()
    return (
        f"Postgres {major} serves{' as before' * (major == former)}" if major else "no database serves, no row is lost"
    )


def refuse_if_due() -> None:
    """Raises Stop before `make up` replaces a server by one that can't read its data."""
    now = running() if not engine.problem() and not compose("config", "--quiet").returncode else None
    if now and now != (wanted := release()):
        raise Stop(
            f"Postgres {now} runs and this release wants {wanted}: run `make upgrade-postgres`,"
            f" or set POSTGRES_MAJOR={now} in .env"
        )
