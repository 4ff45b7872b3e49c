"""Runs inside a helper container, next to the image under test, and prints what it finds as JSON.

The helper shares the subject's network and process namespaces, so that the image itself needs nothing:
it may have no shell, no Python and no `ps`. The text is passed to `python -c`, hence one file without
imports of ours.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ESTABLISHED, NOT_ACCEPTED = "01", "0"  # as /proc/net/tcp has them: the state, and the inode


def respond(status: str, port: str) -> None:
    """Stands in for the server: every request gets this status."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(status))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"status": "a stand-in"}')

        do_HEAD = do_POST = do_GET

    ThreadingHTTPServer(("", int(port)), Answer).serve_forever()


def accepted(port: str) -> int:
    """How many connections the server has taken from its queue."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return sum(
        row[1].endswith(f":{int(port):04X}") and row[3] == ESTABLISHED and row[9] != NOT_ACCEPTED for row in rows
    )


def orphan() -> dict:
    """Leaves a child to PID 1, and says whether PID 1 reaped it."""
    parent = "import subprocess; print(subprocess.Popen(['sleep', '0.1'], stdout=subprocess.DEVNULL).pid)"
    run = subprocess.run([sys.executable, "-c", parent], capture_output=True, check=True)
    left = Path("/proc", run.stdout.decode().strip())
    return {"reaped": until(lambda: not left.exists(), 5), "init": command(Path("/proc/1"))}


def replace() -> dict:
    """Kills one of the server's workers, and says whether another took its place."""
    before = workers()
    if len(before) < 2:
        return {"workers": len(before)}
    os.kill(before[-1], signal.SIGKILL)
    start = time.monotonic()
    replaced = until(lambda: len(set(workers()) - {before[-1]}) >= len(before), 10)
    return {"workers": len(before), "replaced": replaced, "seconds": time.monotonic() - start}


def workers() -> list[int]:
    """The largest group of processes that have the same parent and run the same command."""
    families: dict[tuple[str, str], list[int]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
            # Spawned workers differ only in the numbers of their pipes.
            family = parent, re.sub(r"\d+", "", command(process))
        except OSError:  # gone in between
            continue
        if state != "Z" and parent != "0":  # 0: entered from outside, like this helper
            families.setdefault(family, []).append(int(process.name))
    return sorted(max(families.values(), key=len, default=[]))


def command(process: Path) -> str:
    return (process / "cmdline").read_text().replace("\0", " ").strip()


def until(state, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (holds := state()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
