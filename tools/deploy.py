"""`make deploy` and `make rollback`: one replica at a time, nothing dropped, nothing half-done.

The release is a tag. The one that runs stands in `.env` as TAG, so that every compose command means
it, and the one before as PREVIOUS_TAG; both are written only once the new one serves. Standard
library only: it runs on a server that has just python3, git and Docker.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import engine
import environment
import init
import inventory

ROOT = Path(__file__).parents[1]
ENV, LOCK = ROOT / ".env", ROOT / ".deploy.lock"


class Failed(Exception):
    """The deploy can't go on: why, and what to do, in one line."""


def main(rollback: bool) -> None:
    with alone():
        check()
        former = read("TAG") or "local"
        release = previous() if rollback else chosen()
        began = time.monotonic()
        print(f"{'rollback to' if rollback else 'deploy'} {release} (now: {former})", flush=True)
        if not rollback:
            prepare(release)
        roll(release, former)
        remember(release, former)
        print(f"{release} serves, after {time.monotonic() - began:.1f} s. To go back: make rollback")


@contextmanager
def alone() -> Iterator[None]:
    """One deploy at a time; the lock goes with the process, however it ends."""
    with LOCK.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed("another deploy is under way: wait for it to end") from None
        yield


def check() -> None:
    if problem := engine.problem():
        raise Failed(problem)
    if ENV.exists():
        init.write_secrets(quiet=True)  # of a service that is new in this release
    config = compose("config", "--quiet")
    if config.returncode:
        raise Failed(last_line(config.stderr))


def chosen() -> str:
    """TAG where one is given, else this commit's name."""
    if tag := os.environ.get("TAG"):
        return tag
    version = os.environ.get("VERSION") or "unversioned"
    # Two states of an uncommitted tree are two releases.
    stamp = time.strftime("-%Y%m%d%H%M%S", time.gmtime()) if re.search("dirty|unversioned", version) else ""
    return re.sub(r"[^\w.-]", "-", version + stamp)


def previous() -> str:
    if not (tag := read("PREVIOUS_TAG")):
        raise Failed("there is no release to go back to: .env has no PREVIOUS_TAG")
    return tag


def prepare(release: str) -> None:
    """Images, a database that answers, its roles and its migrations: nothing that serves is touched."""
    with step("images"):
        images(release)
    with step("database"):
        expect(compose("up", "--detach", "--no-recreate", "--wait", "db"), "the database does not start")
        expect(compose("run", "--rm", "--no-deps", "-T", "roles"), "the database's roles can't be set")
    for job in jobs():
        with step(job):
            run = compose("run", "--rm", "--no-deps", "-T", job, tag=release)
            if run.returncode:
                reason = last_message(run.stdout) or last_line(run.stderr)
                raise Failed(f"the migration failed, and the old release serves on: {reason}")


def images(release: str) -> None:
    """Builds them; a tag that was asked for by name is taken from here or from the registry."""
    first = [[*each.replicas, each.name][0] for each in inventory.all()]
    if not os.environ.get("TAG"):
        expect(build(first, release), "the build failed, and the old release serves on")
    elif missing(release, *first) and compose("pull", *first, tag=release).returncode:
        raise Failed(f"there is no image {missing(release, *first)} here, and it can't be pulled")


def build(names: list[str], release: str) -> subprocess.CompletedProcess:
    """In a terminal, what is being built stands beside the step's name: minutes may go by."""
    command = ["docker", "compose", "--progress", "plain", "build", *names]
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
    return subprocess.CompletedProcess(command, process.returncode, stderr="".join(said))


def missing(release: str, *names: str) -> str | None:
    """The first image that these compose services need and that is not here."""
    images = compose("config", "--images", *names, tag=release).stdout.split()
    return next((image for image in images if image.endswith(f":{release}") and not exists(image)), None)


def exists(image: str) -> bool:
    # With no bound on the time: half-way through a deploy, late is better than not.
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def roll(release: str, former: str) -> None:
    """Replaces the replicas one after the other; where one fails, all go back to the former release."""
    done: list[str] = []
    for replicas in [each.replicas for each in inventory.all()]:
        if replicas and missing(release, replicas[0]):  # a rollback to before there was such a service
            print(f"  {replicas[0]} stays: there is no image of {release}", flush=True)
            continue
        # One that does not serve goes first: the other must not be taken out meanwhile.
        for replica in sorted(replicas, key=healthy):
            try:
                with step(replica):
                    replace(replica, release)
            except Failed as failure:
                restore([replica, *reversed(done)], former)
                raise Failed(f"{failure}. Release {former} serves; mend it and deploy again") from None
            done.append(replica)
    with step("proxy"):
        expect(compose("up", "--detach", "--no-recreate", "--no-deps", "--wait", "proxy"), "the proxy does not start")
        reload = ["caddy", "reload", "--config", "/etc/caddy/Caddyfile"]
        expect(compose("exec", "-T", "proxy", *reload), "the proxy keeps its former configuration")


def replace(replica: str, release: str) -> None:
    limit = os.environ.get("DEPLOY_TIMEOUT") or read("DEPLOY_TIMEOUT") or "60"
    run = compose(
        "up", "--detach", "--no-deps", "--no-build", "--wait", "--wait-timeout", limit, replica, tag=release
    )  # fmt: skip
    if run.returncode:
        said = last_message(compose("logs", "--no-log-prefix", "--tail", "20", replica).stdout)
        raise Failed(
            f"{replica} of release {release} did not get ready within {limit} s: {said or last_line(run.stderr)}"
        )


def restore(replicas: list[str], former: str) -> None:
    for replica in replicas:
        with step(f"{replica} back"):
            if missing(former, replica):  # it is new with the release that failed
                compose("rm", "--stop", "--force", replica)
            else:
                compose("up", "--detach", "--no-deps", "--no-build", "--wait", replica, tag=former)


def jobs() -> list[str]:
    """What runs once before a release serves."""
    return [each.job for each in inventory.all() if each.job]


def healthy(replica: str) -> bool:
    state = compose("ps", "--format", "{{.Health}}", replica)
    return state.stdout.strip() == "healthy"


def remember(release: str, former: str) -> None:
    """Writes both tags into .env, whole or not at all."""
    lines = [line for line in ENV.read_text().splitlines() if not re.match(r"(PREVIOUS_)?TAG=", line)]
    kept = read("PREVIOUS_TAG") if release == former else former
    lines += [f"TAG={release}", *([f"PREVIOUS_TAG={kept}"] if kept else [])]
    unfinished = ENV.with_name(".env.unfinished")
    unfinished.write_text("\n".join(lines) + "\n")
    unfinished.chmod(ENV.stat().st_mode)
    unfinished.replace(ENV)


def read(name: str) -> str | None:
    return environment.in_file(ENV).get(name)


def compose(*arguments: str, tag: str | None = None, **others: str) -> subprocess.CompletedProcess:
    command, environment = ["docker", "compose", *arguments], variables(tag) | others
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def variables(tag: str | None) -> dict[str, str]:
    """The environment in which compose means this release, or the one that `.env` names."""
    environment = {name: value for name, value in os.environ.items() if name != "TAG"}
    return environment | ({"TAG": tag, "VERSION": tag} if tag else {})


def expect(run: subprocess.CompletedProcess, otherwise: str) -> None:
    if run.returncode:
        raise Failed(f"{otherwise}: {last_line(run.stderr)}")


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no word why")


def last_message(log: str) -> str | None:
    """The last thing that the app said that was more than information."""
    entries = []
    for line in log.splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    grave = [entry for entry in entries if isinstance(entry, dict) and entry.get("level") not in ("INFO", "DEBUG")]
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


if __name__ == "__main__":
    try:
        main("--rollback" in sys.argv)
    except Failed as failure:
        sys.exit(f"make deploy: {failure}.")
    except KeyboardInterrupt:
        sys.exit("make deploy: interrupted, between two releases. Both serve; run it again to finish.")
