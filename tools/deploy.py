"""`make deploy` and `make rollback`: one replica at a time, nothing dropped, nothing half-done.

The release is a tag. The one that runs stands in `.env` as TAG, so that every compose command means
it, and the one before as PREVIOUS_TAG; both are written only once the new one serves. Standard
library only: it runs on a server that has just python3, git and Docker.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import engine

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
    """Images, a database that answers, and its migrations: nothing that serves is touched."""
    with step("images"):
        images(release)
    with step("database"):
        expect(compose("up", "--detach", "--no-recreate", "--wait", "db"), "the database does not start")
    for job in migrations():
        with step(job):
            run = compose("run", "--rm", "--no-deps", "-T", job, tag=release)
            if run.returncode:
                reason = last_message(run.stdout) or last_line(run.stderr)
                raise Failed(f"the migration failed, and the old release serves on: {reason}")


def images(release: str) -> None:
    """Builds them; a tag that was asked for by name is taken from here or from the registry."""
    first = [pair[0] for pair in pairs()]
    if not os.environ.get("TAG"):
        expect(compose("build", *first, tag=release), "the build failed, and the old release serves on")
    elif missing(release) and compose("pull", *first, tag=release).returncode:
        raise Failed(f"there is no image {missing(release)} here, and it can't be pulled")


def missing(release: str) -> str | None:
    names = compose("config", "--images", *(pair[0] for pair in pairs()), tag=release).stdout.split()
    return next((name for name in names if name.endswith(f":{release}") and not exists(name)), None)


def exists(image: str) -> bool:
    return engine.run("docker", "image", "inspect", image).returncode == 0


def roll(release: str, former: str) -> None:
    """Replaces the replicas one after the other; where one fails, all go back to the former release."""
    done: list[str] = []
    for pair in pairs():
        # One that does not serve goes first: the other must not be taken out meanwhile.
        for replica in sorted(pair, key=healthy):
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
            compose("up", "--detach", "--no-deps", "--no-build", "--wait", replica, tag=former)


def pairs() -> list[tuple[str, str]]:
    """The services that run twice, such as (web-a, web-b)."""
    names = set(services())
    return [(name, f"{name[:-1]}b") for name in sorted(names) if name.endswith("-a") and f"{name[:-1]}b" in names]


def migrations() -> list[str]:
    return [name for name in services() if name == "migrate" or name.endswith("-migrate")]


def services() -> list[str]:
    return sorted(compose("config", "--services").stdout.split())


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
    found = re.findall(rf"^{name}=(.*)$", ENV.read_text() if ENV.exists() else "", re.MULTILINE)
    return found[-1].strip() if found else None


def compose(*arguments: str, tag: str | None = None, **variables: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "TAG"} | variables
    if tag:
        environment |= {"TAG": tag, "VERSION": tag}
    return subprocess.run(
        ["docker", "compose", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


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
