"""Which program listens on a port of this machine. Standard library only."""

import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from slipway.commands import ROOT
from slipway.commands.shared import engine


class Process(NamedTuple):
    pid: int
    name: str
    folder: Path  # it runs in


def taken(port: int) -> bool:
    for address in ("127.0.0.1", "::1"):
        with suppress(OSError), socket.create_connection((address, port), 1):
            return True
    return False


def holder(port: int) -> str | None:
    """The program or the container, empty if it can't be seen; None if it is one of this checkout's own."""
    process = by_proc(port) if Path("/proc/net/tcp").exists() else by_lsof(port)
    if process and "docker" not in process.name:  # the program that publishes the ports of containers
        ours = ROOT in (process.folder, *process.folder.parents)
        return None if ours else f"{process.name} (process {process.pid})"
    with suppress(OSError, engine.NoAnswer):
        publish = ("--filter", f"publish={port}", "--format", "{{.Names}} {{.Labels}}")
        listing = engine.run("docker", "ps", *publish, timeout=engine.SHORT_TIMEOUT).stdout
        if f"com.docker.compose.project.working_dir={ROOT}" in listing:
            return None
        if listing.strip():
            return f"the container {listing.split()[0]}"
    return ""


def by_proc(port: int) -> Process | None:
    """From /proc, if Linux shows it to this user."""
    sockets = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                    sockets.add(f"socket:[{words[9]}]")
    for link in Path("/proc").glob("[0-9]*/fd/*") if sockets else ():
        with suppress(OSError):
            if str(link.readlink()) in sockets:
                process = link.parents[1]
                return Process(int(process.name), (process / "comm").read_text().strip(), (process / "cwd").readlink())
    return None


def by_lsof(port: int) -> Process | None:
    """From lsof elsewhere, such as on macOS, which includes it."""
    if not (lsof := shutil.which("lsof")):
        return None

    def ask(*words: str) -> dict[str, str]:
        run = subprocess.run([lsof, "-nP", "-F", "pcn", *words], capture_output=True, text=True, check=False)
        return {line[0]: line[1:] for line in run.stdout.splitlines()}

    if found := ask(f"-iTCP:{port}", "-sTCP:LISTEN"):
        return Process(int(found["p"]), found["c"], Path(ask("-a", "-p", found["p"], "-d", "cwd").get("n", "/")))
    return None
