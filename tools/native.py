"""`make dev` without Docker: the same app and reload, on an embedded Postgres kept under .data/."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from chassis import logs, migrations
from chassis.settings import SettingsError
from chassis.testing.postgres import Postgres, PostgresError

ROOT = Path(__file__).parents[1]
STOP_TIMEOUT = 10  # seconds


def main(service: str) -> None:
    directory = ROOT / "services" / service
    port = os.environ.get("DEV_PORT") or "8000"
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda number, frame: sys.exit(0))
    logs.configure(format="text")
    with Postgres(ROOT / ".data/postgres") as postgres:
        os.environ |= environment(service, postgres.create(service).url, port)
        os.chdir(directory)
        migrate(service, directory)
        serve(directory)


def environment(service: str, url: str, port: str) -> dict[str, str]:
    """What compose/dev.yaml gives the container."""
    return {
        "SERVICE": service,
        "FLASK_APP": f"{service}.app",
        "APP_ENV": "development",
        "LOG_FORMAT": "text",
        "SECRET_KEY": "dev-only-secret-key",
        "DATABASE_URL": url,
        "BIND_ADDRESS": "127.0.0.1",
        "PORT": port,
        "DEV_URL": f"http://localhost:{port}",
        "DRAIN_DELAY": "0",
        "GRACEFUL_TIMEOUT": "2",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def migrate(service: str, directory: Path) -> None:
    owner = {"DATABASE_URL": replace(migrations.settings_class().load().database, user=f"{service}_owner").url}
    migrations.upgrade(migrations.settings_class().load({**os.environ, **owner}), directory / "migrations")


def serve(directory: Path) -> None:
    """Runs gunicorn until Ctrl-C, which it gets from here alone, so that Postgres outlives it."""
    server = subprocess.Popen([sys.executable, "-m", "gunicorn"], cwd=directory, start_new_session=True)
    try:
        server.wait()
    finally:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "web")
    except (PostgresError, SettingsError) as error:
        sys.exit(f"make dev: {error}")
    except KeyboardInterrupt:
        print("\nStopped; the data stays in .data/.")
