"""`make deploy` and `make rollback`: what `.env` names is what serves.

A release is a tag. `.env` names the running one as TAG, so that every compose command uses it, and the
one before as PREVIOUS_TAG; both are written once every replica runs the new one. Until then
`.deploy.attempt` records what is under way: whatever ends it, the next deploy or rollback finds it. Standard
library only: it runs on a server that has only python3, git and Docker.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from slipway.commands import ROOT, init
from slipway.commands.shared import atomic, database, dotenv, egress, engine, inventory, lock, proxy, registry
from slipway.commands.shared import compose as shared
from slipway.commands.shared.compose import PRODUCTION, build_problem, expect, last_line, parse
from slipway.commands.shared.stop import Stop

ENV, ATTEMPT = ROOT / ".env", ROOT / ".deploy.attempt"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DOWN, NOTHING = ("down", False), "nothing"  # a replica that does not run; said if none runs


def deploy(tag: str = "") -> None:
    """Rolls out this commit, or the release named by `tag`."""
    alone(lambda: change("deploy", tag))


def rollback() -> None:
    """Goes back to the previous release."""
    alone(lambda: change("rollback"))


def change(verb: str, tag: str = "") -> None:
    """Changes to another release. All that can be checked in advance is checked before anything is touched."""
    began, former, interrupted = time.monotonic(), current(), attempt()
    release = chosen(tag) if verb == "deploy" else back(interrupted)
    if interrupted:
        print(f"{interrupted['verb']} {interrupted['release']} was interrupted", flush=True)
    print(f"{'rollback to' if verb == 'rollback' else verb} {release} (now: {now()})", flush=True)
    if len(compose("ps", "--all", "--quiet", "proxy").stdout.split()) > 1:
        print("the proxy's replacement was interrupted", flush=True)
        with step("proxy"):
            proxy.replace()
    if proxy.outdated():
        with step("proxy"):
            if problem := proxy.build():
                raise Stop(f"the proxy can't be built: {problem}; nothing was changed")
    with step("check"):
        if problem := proxy.problem():
            raise Stop(f"the proxy can't use {proxy.kind().config}: {problem}; nothing was changed")
    with step("images"):
        if verb == "deploy" and not tag and not pushed(release):
            build(release)
        fetch(release, verb)
    if ways := egress.names():
        with step("egress"):
            open_ways(ways)
    hook("before", verb, release, former, otherwise="nothing was changed")
    atomic.write(ATTEMPT, json.dumps({"verb": verb, "release": release, "former": former}) + "\n")
    if verb == "deploy":
        prepare(release, interrupted)
    roll(release, former, force=bool(interrupted))
    remember(release, former)
    update_proxy(release)
    hook("after", verb, release, former, otherwise=f"release {release} serves")
    further = " To go back: make rollback" if dotenv.in_file().get("PREVIOUS_TAG") else ""
    print(f"{release} serves, after {time.monotonic() - began:.1f} s.{further}")


def alone(work: Callable[[], None]) -> None:
    """Holds production's lock, with every signal as Ctrl-C: when interrupted, it says what serves and how to go on."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, signal.default_int_handler)
    try:
        with lock.production() as held:
            os.set_inheritable(held.fileno(), True)  # the compose of a killed deploy may still be working on a replica
            check()
            work()
    except KeyboardInterrupt as interrupt:
        raise Stop(ended(f"interrupted{interrupt}")) from None
    except OSError as error:
        raise Stop(ended(str(error))) from None


def check() -> None:
    if problem := engine.problem() or dotenv.wrong_choice() or database.problem() or egress.problem():
        raise Stop(problem)
    proxy.name()  # or stops
    if ENV.exists():
        init.write_secrets(quiet=True)  # for a service that is new in this release
    config = compose("config", "--quiet")
    if config.returncode:
        raise Stop(last_line(config.stderr))


def current() -> str:
    """The release that `.env` names: the last one that every replica served."""
    return dotenv.in_file().get("TAG") or "local"


def attempt() -> dict[str, str] | None:
    """The attempt that was interrupted, if any: it is over once `.env` names a different release than it did then."""
    found = parse(ATTEMPT.read_text()) if ATTEMPT.exists() else {}
    return found if found.get("former") == current() else None


def chosen(tag: str) -> str:
    """The given tag, or else this commit's name."""
    if tag:
        if not re.fullmatch(r"\w[\w.-]{,127}", tag, re.ASCII):
            raise Stop(f"TAG is not a valid image tag: {tag}")
        return tag
    version = os.environ.get("VERSION") or "unversioned"
    # Two states of an uncommitted tree are different releases.
    stamp = time.strftime("-%Y%m%d%H%M%S", time.gmtime()) if re.search("dirty|unversioned", version) else ""
    return re.sub(r"[^\w.-]", "-", version + stamp)


def back(interrupted: dict[str, str] | None) -> str:
    """The release to roll back to: an interrupted deploy is undone, an interrupted rollback completed."""
    if interrupted:
        return interrupted["former" if interrupted["verb"] == "deploy" else "release"]
    if not (tag := dotenv.in_file().get("PREVIOUS_TAG")):
        raise Stop("there is no release to go back to: .env has no PREVIOUS_TAG")
    return tag


def pushed(release: str) -> bool:
    """Whether each of its images has a digest already: built again, one tag would mean two images."""
    return registry.FILE.exists() and set(images(release, *builders())) <= registry.noted().keys()


def build(release: str, *names: str) -> None:
    """Builds the images of these compose services, or of all; a terminal shows what is being built beside the step's
    name, since it may take minutes."""
    command = [*PRODUCTION, "--progress", "plain", "build", *(names or [*builders(), "proxy"])]
    said, live = [], sys.stdout.isatty()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables(release),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            said.append(line)
            if live and (under_way := re.match(r"#\d+ (\[.+)", line)):
                width = shutil.get_terminal_size().columns - 16
                print(f"\r  {'images':<12}  {under_way[1][:width]}\x1b[K", end="", flush=True)
    if live:
        print(f"\r  {'images':<12}\x1b[K", end="", flush=True)
    if process.returncode:
        raise Stop(f"the build failed, and nothing was changed: {build_problem(''.join(said))}")


def fetch(release: str, verb: str = "up") -> None:
    """Pulls missing images. In a rollback, a service without an image is newer than the release, and stays as it is."""
    wanted = images(release, *builders())
    if verb == "deploy":
        for image in wanted:
            registry.refuse_if_moved(image)
    gone = [image for image in wanted if not registry.provide(image)]
    if gone and (verb != "rollback" or len(gone) == len(wanted)):
        raise Stop(f"there is no image {gone[0]} here, and it can't be pulled: `make deploy` builds one of this tree")


def builders() -> list[str]:
    """One compose service for each service, to stand for its image."""
    return [[*each.replicas, each.name][0] for each in inventory.all()]


def images(release: str, *names: str) -> list[str]:
    """The release's images that these compose services need."""
    listed = compose("config", "--images", *names, tag=release).stdout.split()
    return [image for image in sorted(set(listed)) if image.endswith(f":{release}")]


def missing(release: str, *names: str) -> list[str]:
    """Those that are missing here."""
    return [image for image in images(release, *names) if not registry.exists(image)]


def open_ways(names: list[str]) -> None:
    """Starts the ways out, or has those that run use the configuration on the disk: what is in flight stays."""
    expect(
        compose("up", "--detach", "--no-deps", "--wait", *names), "the way out does not start; nothing else was changed"
    )
    expect(compose("kill", "--signal", "USR2", *names), "the way out can't be told; nothing else was changed")


def prepare(release: str, interrupted: dict[str, str] | None) -> None:
    """Starts the database and runs its roles and migrations: nothing that serves is touched."""
    try:
        if not database.elsewhere():
            with step("database"):
                if not running().get("db", DOWN)[1]:
                    expect(compose("up", "--detach", "--no-recreate", "--wait", "db"), "the database does not start")
                expect(compose("run", "--rm", "--no-deps", "-T", "roles"), "the database's roles can't be set")
        for job in jobs():
            with step(job):
                migrate(job, release)
    except Stop:
        if not interrupted:
            ATTEMPT.unlink()
        raise


def migrate(job: str, release: str) -> None:
    run = compose("run", "--rm", "--no-deps", "-T", job, tag=release)
    if run.returncode:
        reason = last_message(run.stdout) or last_line(run.stderr)
        raise Stop(f"the migration failed, and what served serves on (now: {now()}): {reason}")


def roll(release: str, former: str, force: bool) -> None:
    """Replaces the replicas one after the other; if one fails, all go back to the former release. `force` also replaces
    those that already run the release: an interrupted deploy may have told one to stop, and it is about to."""
    done: list[str] = []
    for pair in [each.replicas for each in inventory.all()]:
        if pair and missing(release, pair[0]):  # the service did not exist in the release to go back to
            print(f"  {pair[0]} stays: there is no image of {release}", flush=True)
            continue
        # A replica that does not serve goes first: the other must not be taken out meanwhile.
        runs = running()
        for replica in sorted(pair, key=lambda name: runs.get(name, DOWN)[1]):
            try:
                replace(replica, release, force)
            except Stop as failure:
                raise Stop(f"{failure}. {restore([replica, *reversed(done)], former)}") from None
            done.append(replica)


def replace(replica: str, release: str, force: bool, name: str = "") -> None:
    limit = dotenv.get("DEPLOY_TIMEOUT", "60")
    command = ["up", "--detach", "--no-deps", "--no-build", "--wait", "--wait-timeout", limit]
    with step(name or replica), proxy.without(replica):
        try:
            run = compose(*command, *(["--force-recreate"] if force else []), replica, tag=release)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f" while {replica} was being replaced") from None
        if run.returncode or not running().get(replica, DOWN)[1]:  # whatever compose reports for a wait that timed out
            said = last_message(compose("logs", "--no-log-prefix", "--tail", "20", replica).stdout)
            reason = said or last_line(run.stderr)
            raise Stop(f"{replica} of release {release} did not get ready within {limit} s: {reason}")


def restore(touched: list[str], former: str) -> str:
    """Puts all replicas back, even those that an earlier deploy left on another release; returns what then serves."""
    runs = running()
    left = [name for name in replicas() if name not in touched and runs.get(name, DOWN)[0] != former]
    failures = []
    for replica in [*touched, *(name for name in left if not missing(former, name))]:
        try:
            if missing(former, replica):  # the service is new in the release that failed
                expect(compose("rm", "--stop", "--force", replica), f"{replica} can't be removed")
            else:
                replace(replica, former, True, f"{replica} back")
        except Stop as failure:
            failures.append(str(failure))
    if failures:
        return f"And release {former} is not back: {'; '.join(failures)}. Now: {now()}; mend it, then `make rollback`"
    ATTEMPT.unlink()
    return f"{'Nothing' if now() == NOTHING else f'Release {former}'} serves; mend it and deploy again"


def update_proxy(release: str) -> None:
    """Runs last, when `.env` already names the release: whatever the proxy does, that release serves."""
    with step("proxy"):
        if problem := proxy.update():
            raise Stop(f"release {release} serves, but the proxy is the former one: {problem}")


def hook(when: str, verb: str, release: str, former: str, otherwise: str) -> None:
    """Runs a fork's own program, deploy/hooks/before or after, if there is one, and shows what it prints."""
    program = ROOT / "deploy/hooks" / when
    if not program.exists():
        return
    print(f"  {program.relative_to(ROOT)}", flush=True)
    given = os.environ | {"VERB": verb, "RELEASE": release, "FORMER_RELEASE": former}
    try:
        code = subprocess.run([program], cwd=ROOT, env=given, check=False).returncode
    except OSError as error:
        raise Stop(f"{program.relative_to(ROOT)} can't be run ({error.strerror}), and {otherwise}") from None
    if code:
        raise Stop(f"{program.relative_to(ROOT)} exited with {code}, and {otherwise}")


def jobs() -> list[str]:
    """The jobs that run once before a release serves."""
    return [each.job for each in inventory.all() if each.job]


def replicas() -> list[str]:
    return [name for each in inventory.all() for name in each.replicas]


def running() -> dict[str, tuple[str, bool]]:
    """The release of each running service, and whether it is healthy."""
    found = {}
    for row in compose("ps", "--format", "{{.Service}} {{.Image}} {{.Health}}").stdout.splitlines():
        name, image, health = row.split(" ")
        found[name] = (image.rpartition(":")[2], health == "healthy")
    return found


def now() -> str:
    """What the replicas run, whatever `.env` says."""
    runs = running()
    names: dict[str, list[str]] = {}
    for replica in replicas():
        names.setdefault(runs.get(replica, DOWN)[0], []).append(replica)
    if len(names) == 1:
        return NOTHING if DOWN[0] in names else "".join(names)
    return "; ".join(f"{', '.join(names[tag])}: {tag}" for tag in names)


def remember(release: str, former: str) -> None:
    """Writes both tags to .env, which ends the attempt."""
    kept = dotenv.in_file().get("PREVIOUS_TAG") if release == former else former
    lines = [line for line in ENV.read_text().splitlines() if not re.match(r"(PREVIOUS_)?TAG=", line)]
    lines += [f"TAG={release}", *([f"PREVIOUS_TAG={kept}"] if kept else [])]
    atomic.write(ENV, "\n".join(lines) + "\n")
    ATTEMPT.unlink()


def compose(*arguments: str, tag: str | None = None, **others: str) -> subprocess.CompletedProcess[str]:
    return shared.compose(*arguments, env=variables(tag) | others)


def variables(tag: str | None) -> dict[str, str]:
    """The environment in which compose uses this release, or else the one that `.env` names."""
    environment = {name: value for name, value in os.environ.items() if name != "TAG"}
    return environment | ({"TAG": tag, "VERSION": tag} if tag else {})


def last_message(log: str) -> str | None:
    """The last message that the app logged above the level of information."""
    entries = [parse(line) for line in log.splitlines()]
    grave = [entry for entry in entries if entry.get("level", "INFO") not in ("INFO", "DEBUG")]
    return grave[-1]["message"] if grave else None


@contextmanager
def step(name: str) -> Iterator[None]:
    began = time.monotonic()
    print(f"  {name:<12}", end="", flush=True)
    try:
        yield
    except BaseException:
        print("  failed")
        raise
    print(f"{time.monotonic() - began:6.1f} s", flush=True)


def ended(why: str) -> str:
    """The message for a deploy that was interrupted; a second Ctrl-C interrupts that, too."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    said = f"{why}; now: {now()}"
    if interrupted := attempt():
        said += f". `make deploy` goes on, `make rollback` goes back to {back(interrupted)}"
    return said
