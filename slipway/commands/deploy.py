"""`make deploy`, `make rollback` and `make up`: what `.env` names is what serves.

The release is a tag. The one that runs stands in `.env` as TAG, so that every compose command means
it, and the one before as PREVIOUS_TAG; both are written once every replica runs the new one. Until then
`.deploy.attempt` says what is under way: whatever ends it, the next deploy or rollback finds it. Standard
library only: it runs on a server that has just python3, git and Docker.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway.commands import ROOT, engine, environment, init, inventory, proxy

ENV, LOCK, ATTEMPT = ROOT / ".env", ROOT / ".deploy.lock", ROOT / ".deploy.attempt"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DOWN, NOTHING = ("down", False), "nothing"  # a replica that does not run; where none does


class Failed(Exception):
    """The deploy can't go on: why, and what to do, in one line."""


def main(verb: str) -> None:
    with alone():
        check()
        up() if verb == "up" else change(verb)


def up() -> None:
    """Starts the release that `.env` names as it is; where it names none, what is built from this tree."""
    release = environment.in_file().get("TAG")
    if release:
        print(f"Starting release {release}, which .env names; `make deploy` builds this tree.", flush=True)
        fetch(release)
    command = ["docker", "compose", "up", "--detach", "--wait", *([] if release else ["--build"])]
    if code := subprocess.run(command, cwd=ROOT, env=variables(None), check=False).returncode:
        sys.exit(code)


def change(verb: str) -> None:
    """To another release. Whatever can be looked at beforehand is, before anything is touched."""
    began, former, interrupted = time.monotonic(), current(), attempt()
    release = chosen() if verb == "deploy" else back(interrupted)
    if interrupted:
        print(f"{interrupted['verb']} {interrupted['release']} was interrupted", flush=True)
    print(f"{'rollback to' if verb == 'rollback' else verb} {release} (now: {now()})", flush=True)
    with step("check"):
        if problem := proxy.problem():
            raise Failed(f"the proxy can't use docker/proxy/caddy/Caddyfile: {problem}; nothing was changed")
    with step("images"):
        build(release) if verb == "deploy" and not os.environ.get("TAG") else fetch(release, verb)
    hook("before", verb, release, former, otherwise="nothing was changed")
    write(ATTEMPT, json.dumps({"verb": verb, "release": release, "former": former}) + "\n")
    if verb == "deploy":
        prepare(release, interrupted)
    roll(release, former, force=bool(interrupted))
    remember(release, former)
    update_proxy(release)
    hook("after", verb, release, former, otherwise=f"release {release} serves")
    further = " To go back: make rollback" if environment.in_file().get("PREVIOUS_TAG") else ""
    print(f"{release} serves, after {time.monotonic() - began:.1f} s.{further}")


@contextmanager
def alone() -> Iterator[None]:
    """One deploy at a time; the lock goes with the process, and with what it has started, however they end."""
    with LOCK.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed("another deploy is under way, or a restore or a rotation: wait for it to end") from None
        os.set_inheritable(lock.fileno(), True)  # a killed deploy's compose may be at work on a replica still
        yield


def check() -> None:
    if problem := engine.problem():
        raise Failed(problem)
    if ENV.exists():
        init.write_secrets(quiet=True)  # of a service that is new in this release
    config = compose("config", "--quiet")
    if config.returncode:
        raise Failed(last_line(config.stderr))


def current() -> str:
    """The release that `.env` names: the last that served whole."""
    return environment.in_file().get("TAG") or "local"


def attempt() -> dict[str, str] | None:
    """What was under way when something ended it: over once `.env` names another release than it did then."""
    found = engine.parse(ATTEMPT.read_text()) if ATTEMPT.exists() else {}
    return found if found.get("former") == current() else None


def chosen() -> str:
    """TAG where one is given, else this commit's name."""
    if tag := os.environ.get("TAG"):
        if not re.fullmatch(r"\w[\w.-]{,127}", tag, re.ASCII):
            raise Failed(f"TAG is no tag of an image: {tag}")
        return tag
    version = os.environ.get("VERSION") or "unversioned"
    # Two states of an uncommitted tree are two releases.
    stamp = time.strftime("-%Y%m%d%H%M%S", time.gmtime()) if re.search("dirty|unversioned", version) else ""
    return re.sub(r"[^\w.-]", "-", version + stamp)


def back(interrupted: dict[str, str] | None) -> str:
    """Where a rollback goes: an interrupted deploy is undone, an interrupted rollback completed."""
    if interrupted:
        return interrupted["former" if interrupted["verb"] == "deploy" else "release"]
    if not (tag := environment.in_file().get("PREVIOUS_TAG")):
        raise Failed("there is no release to go back to: .env has no PREVIOUS_TAG")
    return tag


def build(release: str) -> None:
    """In a terminal, what is being built stands beside the step's name: minutes may go by."""
    command = ["docker", "compose", "--progress", "plain", "build", *builders()]
    said, live = [], sys.stdout.isatty()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    with subprocess.Popen(command, cwd=ROOT, env=variables(release), **pipes) as process:
        for line in process.stdout:
            said.append(line)
            if live and (under_way := re.match(r"#\d+ (\[.+)", line)):
                width = shutil.get_terminal_size().columns - 16
                print(f"\r  {'images':<12}  {under_way[1][:width]}\x1b[K", end="", flush=True)
    if live:
        print(f"\r  {'images':<12}\x1b[K", end="", flush=True)
    if process.returncode:
        raise Failed(f"the build failed, and nothing was changed: {last_line(''.join(said))}")


def fetch(release: str, verb: str = "up") -> None:
    """Pulls the images that are not here. In a rollback, a service without one is newer than the release, and stays."""
    gone = [image for image in missing(release, *builders()) if docker("pull", "--quiet", image).returncode]
    if gone and (verb != "rollback" or len(gone) == len(builders())):
        raise Failed(f"there is no image {gone[0]} here, and it can't be pulled: `make deploy` builds one of this tree")


def builders() -> list[str]:
    """Of each service the one, as compose names it, that stands for its image."""
    return [[*each.replicas, each.name][0] for each in inventory.all()]


def missing(release: str, *names: str) -> list[str]:
    """The images that these compose services need and that are not here."""
    images = compose("config", "--images", *names, tag=release).stdout.split()
    return [image for image in sorted(set(images)) if image.endswith(f":{release}") and not exists(image)]


def exists(image: str) -> bool:
    return docker("image", "inspect", image).returncode == 0


def prepare(release: str, interrupted: dict[str, str] | None) -> None:
    """A database that answers, its roles and its migrations: nothing that serves is touched."""
    try:
        with step("database"):
            expect(compose("up", "--detach", "--no-recreate", "--wait", "db"), "the database does not start")
            expect(compose("run", "--rm", "--no-deps", "-T", "roles"), "the database's roles can't be set")
        for job in jobs():
            with step(job):
                migrate(job, release)
    except Failed:
        if not interrupted:
            ATTEMPT.unlink()
        raise


def migrate(job: str, release: str) -> None:
    run = compose("run", "--rm", "--no-deps", "-T", job, tag=release)
    if run.returncode:
        reason = last_message(run.stdout) or last_line(run.stderr)
        raise Failed(f"the migration failed, and what served serves on (now: {now()}): {reason}")


def roll(release: str, former: str, force: bool) -> None:
    """Replaces the replicas one after the other; where one fails, all go back to the former release. `force` replaces
    those, too, that run the release: an interrupted deploy may have told one to stop, and it is about to."""
    done: list[str] = []
    for pair in [each.replicas for each in inventory.all()]:
        if pair and missing(release, pair[0]):  # a rollback to before there was such a service
            print(f"  {pair[0]} stays: there is no image of {release}", flush=True)
            continue
        # One that does not serve goes first: the other must not be taken out meanwhile.
        runs = running()
        for replica in sorted(pair, key=lambda name: runs.get(name, DOWN)[1]):
            try:
                replace(replica, release, force)
            except Failed as failure:
                raise Failed(f"{failure}. {restore([replica, *reversed(done)], former)}") from None
            done.append(replica)


def replace(replica: str, release: str, force: bool, name: str = "") -> None:
    limit = environment.get("DEPLOY_TIMEOUT", "60")
    command = ["up", "--detach", "--no-deps", "--no-build", "--wait", "--wait-timeout", limit]
    with step(name or replica):
        try:
            run = compose(*command, *(["--force-recreate"] if force else []), replica, tag=release)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f" while {replica} was being replaced") from None
        if run.returncode or not running().get(replica, DOWN)[1]:  # whatever compose makes of a wait that ran out
            said = last_message(compose("logs", "--no-log-prefix", "--tail", "20", replica).stdout)
            reason = said or last_line(run.stderr)
            raise Failed(f"{replica} of release {release} did not get ready within {limit} s: {reason}")


def restore(touched: list[str], former: str) -> str:
    """Puts all back, those that an earlier deploy has left on another release, too; returns what serves then."""
    runs = running()
    left = [name for name in replicas() if name not in touched and runs.get(name, DOWN)[0] != former]
    failures = []
    for replica in [*touched, *(name for name in left if not missing(former, name))]:
        try:
            if missing(former, replica):  # it is new with the release that failed
                expect(compose("rm", "--stop", "--force", replica), f"{replica} can't be removed")
            else:
                replace(replica, former, True, f"{replica} back")
        except Failed as failure:
            failures.append(str(failure))
    if failures:
        return f"And release {former} is not back: {'; '.join(failures)}. Now: {now()}; mend it, then `make rollback`"
    ATTEMPT.unlink()
    return f"{'Nothing' if now() == NOTHING else f'Release {former}'} serves; mend it and deploy again"


def update_proxy(release: str) -> None:
    """Last, when `.env` names the release already: whatever the proxy does, that one serves."""
    with step("proxy"):
        run = compose("up", "--detach", "--no-recreate", "--no-deps", "--wait", "proxy")
        expect(run, f"release {release} runs, but the proxy does not start")
        if problem := proxy.reload():
            raise Failed(f"release {release} serves, but the proxy keeps its former configuration: {problem}")


def hook(when: str, verb: str, release: str, former: str, otherwise: str) -> None:
    """A fork's own program, deploy/hooks/before or after, where it has one; what it prints is shown."""
    program = ROOT / "deploy/hooks" / when
    if not program.exists():
        return
    print(f"  {program.relative_to(ROOT)}", flush=True)
    given = os.environ | {"VERB": verb, "RELEASE": release, "FORMER_RELEASE": former}
    try:
        code = subprocess.run([program], cwd=ROOT, env=given, check=False).returncode
    except OSError as error:
        raise Failed(f"{program.relative_to(ROOT)} can't be run ({error.strerror}), and {otherwise}") from None
    if code:
        raise Failed(f"{program.relative_to(ROOT)} exited with {code}, and {otherwise}")


def jobs() -> list[str]:
    """What runs once before a release serves."""
    return [each.job for each in inventory.all() if each.job]


def replicas() -> list[str]:
    return [name for each in inventory.all() for name in each.replicas]


def running() -> dict[str, tuple[str, bool]]:
    """Of each service that runs its release, and whether it is healthy."""
    found = {}
    for row in compose("ps", "--format", "{{.Service}} {{.Image}} {{.Health}}").stdout.splitlines():
        name, image, health = row.split(" ")
        found[name] = (image.rpartition(":")[2], health == "healthy")
    return found


def now() -> str:
    """What the replicas run, whatever `.env` says."""
    runs, names = running(), {}
    for replica in replicas():
        names.setdefault(runs.get(replica, DOWN)[0], []).append(replica)
    if len(names) == 1:
        return NOTHING if DOWN[0] in names else "".join(names)
    return "; ".join(f"{', '.join(names[tag])}: {tag}" for tag in names)


def remember(release: str, former: str) -> None:
    """Both tags into .env; with that the attempt is over."""
    kept = environment.in_file().get("PREVIOUS_TAG") if release == former else former
    lines = [line for line in ENV.read_text().splitlines() if not re.match(r"(PREVIOUS_)?TAG=", line)]
    lines += [f"TAG={release}", *([f"PREVIOUS_TAG={kept}"] if kept else [])]
    write(ENV, "\n".join(lines) + "\n")
    ATTEMPT.unlink()


def write(path: Path, text: str) -> None:
    """Whole or not at all, whatever ends us and the machine."""
    unfinished = ROOT / ".deploy.unfinished"
    with unfinished.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        unfinished.chmod(path.stat().st_mode)
    unfinished.replace(path)


def compose(*arguments: str, tag: str | None = None, **others: str) -> subprocess.CompletedProcess:
    return docker("compose", *arguments, env=variables(tag) | others)


def docker(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    # With no bound on the time: half-way through a deploy, late is better than not. It keeps the lock.
    return subprocess.run(
        ["docker", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False, close_fds=False
    )


def variables(tag: str | None) -> dict[str, str]:
    """The environment in which compose means this release, or the one that `.env` names."""
    environment = {name: value for name, value in os.environ.items() if name != "TAG"}
    return environment | ({"TAG": tag, "VERSION": tag} if tag else {})


def expect(run: subprocess.CompletedProcess, otherwise: str) -> None:
    if run.returncode:
        raise Failed(f"{otherwise}: {last_line(run.stderr)}")


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no error message")


def last_message(log: str) -> str | None:
    """The last thing that the app said that was more than information."""
    entries = [entry for entry in map(engine.parse, log.splitlines()) if isinstance(entry, dict)]
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


def ended(verb: str, why: str) -> str:
    """What to say of a deploy that something has ended; a second Ctrl-C ends that, too."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    said = f"make {verb}: {why}; now: {now()}"
    if interrupted := attempt():
        said += f". `make deploy` goes on, `make rollback` goes back to {back(interrupted)}"
    return f"{said}."


if __name__ == "__main__":
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)
    verb = sys.argv[1].removeprefix("--") if sys.argv[1:] else "deploy"
    try:
        main(verb)
    except Failed as failure:
        sys.exit(f"make {verb}: {failure}.")
    except KeyboardInterrupt as interrupt:
        sys.exit(ended(verb, f"interrupted{interrupt}"))
    except OSError as error:
        sys.exit(ended(verb, str(error)))
