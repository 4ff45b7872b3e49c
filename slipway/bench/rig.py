"""Containers to measure, under a unique name: a database, the candidates, and wrk beside them."""

import gzip
import http.client
import json
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from slipway.commands import ROOT
from slipway.proofs.harness import free_port, unique, wait_until

HERE = Path(__file__).parent

BASE = "python:3.14-slim-trixie"
DATABASE = "postgresql://postgres:bench@{}/postgres"
ROWS = "CREATE TABLE bench (id int PRIMARY KEY, name text); INSERT INTO bench VALUES (1, 'one');"


class Load(NamedTuple):
    """What wrk saw in one run: requests a second, the 99th percentile in ms, and CPU in µs a request."""

    rate: float
    p99: float
    cpu: float


class Candidate(NamedTuple):
    """An image, and how it is run to answer the two routes of the reference."""

    name: str
    image: str
    command: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def own(name: str, image: str, service: str = "web", **environment: object) -> Candidate:
    """The service as production runs it, with two more routes, as many workers and threads as the reference."""
    settings = {
        "SECRET_KEY": "0123456789abcdef0123456789abcdef",
        "TRUSTED_PROXIES": 1,
        "WEB_CONCURRENCY": 2,
        "WEB_THREADS": 8,
        "APP": "routes:create_app()",
        "PYTHONPATH": f"/app/services/{service}/src:/app/slipway/chassis/src:/bench",
        **environment,
    }
    options = [f"--env={key}={value}" for key, value in settings.items()]
    return Candidate(name, image, ("gunicorn", "--config", "/bench/gunicorn.conf.py"),
                     (*options, "--volume", f"{HERE}:/bench:ro"))  # fmt: skip


class Rig:
    """One network and one Postgres; everything in it is removed at the end."""

    def __init__(self) -> None:
        self.name = unique("bench")
        self.label = f"slipway.bench={self.name}"

    def __enter__(self) -> "Rig":
        docker("network", "create", "--label", self.label, self.name)
        self.run("db", "postgres:18-trixie", "--env=POSTGRES_PASSWORD=bench", "--tmpfs=/var/lib/postgresql")
        self.database = DATABASE.format(self.container("db"))
        wait_until("the database answers", lambda: self.sql(ROWS), 60)
        return self

    def __exit__(self, *_: object) -> None:
        if ids := docker("ps", "--all", "--quiet", "--filter", f"label={self.label}").split():
            docker("rm", "--force", "--volumes", *ids)
        for kind in ("network", "volume"):
            if names := docker(kind, "ls", "--quiet", "--filter", f"label={self.label}").split():
                docker(kind, "rm", *names)

    def container(self, name: str) -> str:
        return f"{self.name}-{name}"

    def run(self, name: str, image: str, *options: str, command: tuple[str, ...] = ()) -> str:
        docker("run", "--detach", "--name", self.container(name), "--label", self.label, "--network", self.name,
               "--log-driver=local", "--log-opt=mode=non-blocking", *options, image, *command)  # fmt: skip
        return self.container(name)

    def migrate(self, image: str) -> None:
        """Migrates: without its revision the service is not ready, and a proxy sends it nothing."""
        settings = ("--env=SECRET_KEY=0123456789abcdef0123456789abcdef", f"--env=DATABASE_URL={self.database}")
        docker(
            "run", "--rm", "--network", self.name, *settings, image, "python", "-m", "chassis.db.migrations", "upgrade"
        )

    def start(self, each: Candidate, *options: str, path: str = "/bench/hello") -> str:
        """Runs the candidate with the database; it answers requests by the time this returns."""
        port = free_port()
        self.run(each.name, each.image, f"--env=DATABASE_URL={self.database}", f"--publish=127.0.0.1:{port}:8000",
                 *each.options, *options, command=each.command)  # fmt: skip
        wait_until(f"{each.name} answers", lambda: fetch(f"http://127.0.0.1:{port}{path}"), 60)
        return self.container(each.name)

    def seconds_to_first_answer(self, each: Candidate, path: str = "/bench/query") -> float:
        """From `docker run` to the first 200 of a route, by default one that reads the database."""
        port, begun = free_port(), time.perf_counter()
        name = self.run(each.name, each.image, f"--env=DATABASE_URL={self.database}",
                        f"--publish=127.0.0.1:{port}:8000", *each.options, command=each.command)  # fmt: skip
        try:
            while not fetch(f"http://127.0.0.1:{port}{path}"):
                if time.perf_counter() - begun > 60:
                    raise AssertionError(f"{each.name} did not answer within 60 s")
            return time.perf_counter() - begun
        finally:
            docker("rm", "--force", "--volumes", name)

    def remove(self, name: str) -> None:
        docker("rm", "--force", "--volumes", self.container(name))

    def answers(self, url: str) -> bool:
        return "200" in docker("run", "--rm", "--network", self.name, LOAD, "python", "-c", ASK, url)

    def sql(self, statement: str) -> bool:
        docker("exec", self.container("db"), "psql", "-h127.0.0.1", "-Upostgres", "-qc", statement)
        return True

    def load(self, container: str, url: str, seconds: int, connections: int = 16) -> Load:
        before = cpu(container)
        how = ("--threads=1", f"--connections={connections}", f"--duration={seconds}s", "--timeout=10s", "--latency")
        said = docker(
            "run", "--rm", "--cpu-shares=20480", "--label", self.label, "--network", self.name, LOAD, "wrk", *how, url
        )
        spent = cpu(container) - before
        if bad := re.search(r"Non-2xx.*|Socket errors: (?!connect 0, read 0, write 0, timeout 0).*", said):
            raise AssertionError(f"{url}: {bad[0]}")
        requests = int(re.search(r"(\d+) requests in", said)[1])
        amount, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", said).groups()
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
        return Load(rate, float(amount) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit], spent / requests / 1e3)


LOAD = "slipway/bench-load"
PROXIES = {"caddy": "slipway/bench-caddy", "nginx": "slipway/bench-nginx"}
ASK = """
import ssl, sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5, context=ssl._create_unverified_context()).status)
except (OSError, urllib.error.HTTPError) as error:
    print(error)
"""
REFERENCE = "slipway/bench-reference"


def build_references() -> None:
    """Builds wrk, our proxies, and the reference with the lock's versions, so that only our own work differs."""
    docker("build", "--quiet", "--tag", LOAD, str(HERE / "load"))
    for kind, tag in PROXIES.items():
        kit = f"--build-context=kit={ROOT}/slipway/proxy"
        docker("build", "--quiet", kit, "--tag", tag, str(ROOT / "docker/proxy" / kind))
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(shutil.copytree(HERE / "reference", f"{scratch}/reference"))
        names = ("flask", "gunicorn", "sqlalchemy", "psycopg2-binary")
        (context / "requirements.txt").write_text("".join(f"{name}=={version(name)}\n" for name in names))
        docker("build", "--quiet", "--tag", REFERENCE, str(context))


def build(tree: Path, tag: str, **arguments: str) -> str:
    given = [f"--build-arg={name.upper()}={value}" for name, value in {"service": "web", **arguments}.items()]
    file = str(tree / "docker/service.Dockerfile")
    docker("build", "--quiet", *given, "--tag", tag, "--file", file, str(tree))
    return tag


def docker(*arguments: str) -> str:
    run = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=900)
    if run.returncode:
        raise AssertionError(f"docker {' '.join(arguments[:3])}…: {(run.stderr or run.stdout).strip()[-500:]}")
    return run.stdout.strip()


def exists(image: str) -> bool:
    return subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False).returncode == 0


def inspect(image: str) -> dict:
    return json.loads(docker("image", "inspect", image))[0]


def megabytes(image: str) -> float:
    return inspect(image)["Size"] / 1e6


def compressed(image: str) -> float:
    """Approximate MB of the image as a registry would send it: all of its layers, gzip level 6."""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as save:
        archive = subprocess.run(["gzip", "-6"], stdin=save.stdout, capture_output=True, check=True)
    return len(archive.stdout) / 1e6


def layers(image: str) -> set[str]:
    """The digests of the layers that are not empty."""
    return set(inspect(image)["RootFS"]["Layers"]) - {EMPTY}


def size(image: str, digests: set[str]) -> tuple[float, float]:
    """MB of those layers as they are stored, and approximately as a registry would send them: gzip level 6."""
    names = {f"blobs/{digest.replace(':', '/')}" for digest in digests}
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as save:
        with tarfile.open(fileobj=save.stdout, mode="r|") as archive:
            held = [archive.extractfile(each).read() for each in archive if each.name in names]
        save.stdout.read()  # the archive's padding
    return sum(map(len, held)) / 1e6, sum(len(gzip.compress(each, 6)) for each in held) / 1e6


EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"  # the size of an empty tar


def cpu(container: str) -> int:
    """Nanoseconds of CPU that the container has used (cgroup v1 or v2)."""
    identity = docker("inspect", "--format", "{{.Id}}", container)
    for pattern in ("cpuacct/docker/{}/cpuacct.usage", "cpu,cpuacct/docker/{}/cpuacct.usage"):
        if (path := Path("/sys/fs/cgroup", pattern.format(identity))).exists():
            return int(path.read_text())
    for path in Path("/sys/fs/cgroup").glob(f"**/*{identity}*/cpu.stat"):
        return int(re.search(r"usage_usec (\d+)", path.read_text())[1]) * 1000
    return 0


def memory(container: str) -> float:
    """MiB that the container's processes hold, without the page cache, as `docker stats` counts."""
    used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", container).split("/")[0]
    amount, unit = re.match(r"([\d.]+)(\w+)", used).groups()
    return float(amount) * {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}[unit]


def fetch(url: str) -> bool:
    """Whether it answers 200."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return answer.status == 200
    except (OSError, http.client.HTTPException):
        time.sleep(0.005)
        return False


def machine() -> str:
    """What the figures were measured on."""
    info = json.loads(docker("info", "--format", "{{json .}}"))
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = info["MemTotal"] / 2**30
    cores = f"{info['NCPU']} cores ({model[1] if model else platform.machine()})"
    return f"{cores}, {memory:.0f} GiB, {info['OperatingSystem']}, Docker {info['ServerVersion']}"
