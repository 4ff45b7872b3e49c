"""Production comes back by itself when the engine restarts: an engine of its own, in a network of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slipway.commands.shared import engine
from slipway.proofs.harness import wait_until

pytestmark = pytest.mark.containers

ASK = """
import ssl, sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=5, context=ssl._create_unverified_context()).status)
"""


class Engine:
    """dockerd, with all that it keeps in a directory. Its containers are reached from its network alone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.host = f"unix://{directory}/socket"

    def start(self) -> None:
        here = self.directory
        options = [
            f"--data-root={here}/data",
            f"--exec-root={here}/run",
            f"--pidfile={here}/pid",
            f"--host={self.host}",
        ]
        command = f"ip link set lo up && exec dockerd --storage-driver=overlay2 {' '.join(options)}"
        with (here / "log").open("a") as log:
            self.process = subprocess.Popen(["unshare", "--net", "sh", "-c", command], stdout=log, stderr=log)
        wait_until("the engine", lambda: self.docker("version").returncode == 0, 60)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(90)

    def docker(self, *words: str, **options) -> subprocess.CompletedProcess:
        environment = os.environ | {"DOCKER_HOST": self.host}
        return subprocess.run(["docker", *words], env=environment, capture_output=True, check=False, **options)

    def ask(self, url: str) -> str:
        """The status, or why there is none: asked from inside its network; the certificate may be any."""
        inside = ["nsenter", "--net", "--target", str(self.process.pid), sys.executable, "-c", ASK, url]
        asked = subprocess.run(inside, capture_output=True, text=True, check=False)
        return (asked.stdout or asked.stderr).strip().splitlines()[-1]


@contextmanager
def own_engine() -> Iterator[Engine]:
    missing = [tool for tool in ("dockerd", "ip", "nsenter", "unshare") if not shutil.which(tool)]
    if missing or os.geteuid():
        reason = f"takes {', '.join(missing) or 'root'}"
        pytest.fail(reason) if "engine" in os.environ.get("REQUIRE", "") else pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="engine-", ignore_cleanup_errors=True) as directory:
        daemon = Engine(Path(directory))
        daemon.start()
        try:
            yield daemon
        finally:
            if ids := daemon.docker("ps", "--all", "--quiet", text=True).stdout.split():
                daemon.docker("rm", "--force", "--volumes", *ids)
            daemon.stop()


def test_after_a_restart_of_the_engine_the_site_serves_by_itself(probed):
    nginx = probed.environment | {"PROXY": "nginx"}
    probed.compose("build", "proxy", env=nginx)
    bases = [each for each in engine.bases() if each.startswith(("postgres", "python"))]
    with own_engine() as daemon:
        with subprocess.Popen(["docker", "save", *bases, *probed._images()], stdout=subprocess.PIPE) as save:
            assert daemon.docker("load", stdin=save.stdout).returncode == 0
        url = f"https://localhost:{probed.environment['HTTPS_PORT']}/version"
        for environment in (probed.environment, nginx):
            probed.compose("up", "--detach", "--wait", env=environment | {"DOCKER_HOST": daemon.host})
            assert daemon.ask(url) == "200"
            daemon.stop()
            assert daemon.ask(url) != "200"
            daemon.start()
            wait_until("the site", lambda: daemon.ask(url) == "200", 60)
