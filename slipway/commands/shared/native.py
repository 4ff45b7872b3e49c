"""`make dev` without Docker: the same apps and reload, on an embedded Postgres kept under .data/."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

from chassis.settings.address import Address
from chassis_testing.postgres import Postgres, PostgresError
from slipway.commands import ROOT
from slipway.commands.shared import debugger, inventory
from slipway.commands.shared.inventory import Service
from slipway.commands.shared.stop import Stop

STOP_TIMEOUT = 10  # seconds


def main(names: list[str]) -> None:
    debugged = "--debug" in names
    chosen = [inventory.find(name) for name in names if name != "--debug"]
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda number, frame: sys.exit(0))
    with Postgres(ROOT / ".data/postgres") as postgres:
        serve([start(service, postgres, debugged) for service in chosen])


def start(service: Service, postgres: Postgres, debugged: bool) -> subprocess.Popen[bytes]:
    """Migrates and then starts a service; only this process passes Ctrl-C on to it, so that Postgres outlives it."""
    given = {**os.environ, **environment(service), **(debugger.settings() if debugged else {})}
    if service.database:
        address = postgres.create(service.name)
        migrate(service, given, address)
        given["DATABASE_URL"] = address.url
    modules = (debugger.MODULE,) if debugged else COMMANDS.get(service.kind, ("devserver",))
    command = [sys.executable, "-m", *modules]
    return subprocess.Popen(command, cwd=service.directory, env=given, start_new_session=True)


# A worker restarts in its own way; a script, which ends by itself, does not restart.
COMMANDS = {"worker": ("devserver.program",), "script": ("chassis.process.worker",)}


def environment(service: Service) -> dict[str, str]:
    """The environment that slipway/compose/service.yaml gives a container in development."""
    port, url = (str(service.dev_port), service.dev_url) if service.serves else ("8000", "")
    return {
        "SERVICE": service.name,
        "FLASK_APP": f"{service.name}.app",
        "APP_ENV": "development",
        "LOG_FORMAT": "text",
        "SECRET_KEY": "dev-only-secret-key",
        "BIND_ADDRESS": "127.0.0.1",
        "PORT": port,
        "DEV_URL": url,
        "URL_PREFIX": service.prefix,
        "DRAIN_DELAY": "0",
        "GRACEFUL_TIMEOUT": "2",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def migrate(service: Service, given: dict[str, str], address: Address) -> None:
    """Migrates. If that fails, the log says why, and the app's own page says it better."""
    owner = given | {"DATABASE_URL": replace(address, user=f"{service.name}_owner").url}
    subprocess.run(
        [sys.executable, "-m", "chassis.db.migrations", "upgrade"], cwd=service.directory, env=owner, check=False
    )


def serve(running: list[subprocess.Popen[bytes]]) -> None:
    """Waits until all have ended, or for Ctrl-C."""
    try:
        while any(server.poll() is None for server in running):
            time.sleep(0.2)
    finally:
        for server in running:
            server.terminate()
        for server in running:
            try:
                server.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


if __name__ == "__main__":
    try:
        main(sys.argv[1:] or [service.name for service in inventory.all() if service.kind != "script"])
    except (Stop, PostgresError) as error:
        sys.exit(f"make dev: {error}")
    except KeyboardInterrupt:
        print("\nStopped; the data stays in .data/.")
