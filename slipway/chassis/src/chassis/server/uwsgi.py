"""uWSGI, with what it lacks: `python -m chassis.server.uwsgi [CONFIG] [OPTION]...`, in images with SERVER=uwsgi.

The service's `gunicorn.conf.py` names the app, for uWSGI too. This process starts uWSGI as its child, makes JSON of
what it prints, and holds SIGTERM back while the service drains; uwsgi_app.py does the rest in the workers. An option,
given here or in the environment as `UWSGI_PROCESSES=3` for `processes`, replaces ours.
"""

import logging
import os
import re
import runpy
import shutil
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from chassis.observe.exits import CONFIG, fail, settings_or_exit
from chassis.server import control, drain
from chassis.server.gunicorn import keep_counts
from chassis.server.worker import Worker

BACKLOG = 1024  # connections that wait to be accepted, as far as the kernel allows
CLIENT_WAIT = 300  # seconds that a client may neither send nor read, as the proxy allows
LAST_WORDS = 1.0  # seconds to read what uWSGI printed before it ended
TROUBLE = re.compile(r"DAMN|died|!!!|error|invalid|unable|Traceback", re.IGNORECASE).search

log = logging.getLogger("uwsgi.error")


def main(words: list[str]) -> int:
    """Returns uWSGI's exit code; 0 if it was told to stop."""
    config, *options = words if words and not words[0].startswith("-") else ["gunicorn.conf.py", *words]
    settings, served = settings_or_exit(), runpy.run_path(config)
    try:
        import pyuwsgi
    except ImportError:
        fail(CONFIG, "uWSGI is not installed: build the image with SERVER=uwsgi.")
    if served["worker_class"] is not Worker:
        fail(CONFIG, "uWSGI can't run an ASGI app: build this service's image with SERVER=gunicorn.")
    printed, output = os.pipe()
    if (child := os.fork()) == 0:
        os.setpgid(0, 0)  # so that all of uWSGI can be killed at once
        os.dup2(output, 2)
        os.closerange(printed, output + 1)
        pyuwsgi.run([*arguments(served), *options])
    os.close(output)
    drain.on_signal(
        settings.drain_delay,
        graceful=lambda: stop(child, settings.graceful_timeout, settings.port),
        quick=lambda: kill(child),
    )
    control.listen("server")
    reader = threading.Thread(target=pass_on, args=(printed,), daemon=True)
    reader.start()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.setitimer(signal.ITIMER_REAL, 0)
    kill(child)  # workers that are left of a master that was killed
    reader.join(LAST_WORDS)
    shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
    return 0 if drain.started() else code if code >= 0 else 128 - code


def arguments(served: dict[str, Any]) -> list[str]:
    """uWSGI's command line (uwsgi-docs.readthedocs.io/en/latest/Options.html)."""
    options = {
        "http-socket": served["bind"],
        "processes": served["workers"],
        "threads": served["threads"],
        "listen": backlog(),
        "buffer-size": 65535,  # bytes of all headers, as uWSGI holds them; the proxy takes 16 KB
        "max-vars": 4096,  # as many headers as that can be; uwsgi_app.py refuses them with a status
        "socket-timeout": CLIENT_WAIT,
        "add-header": "Connection: close",  # it keeps no connection, and says so to the proxy
    }
    flags = {
        "master",
        "enable-threads",  # the app's own
        "single-interpreter",
        "need-app",  # exit if the app can't be loaded
        "strict",  # exit on an option that it does not know
        "no-orphans",  # workers end with their master
        "disable-logging",  # of requests: uwsgi_app.py writes their lines
        "ignore-sigpipe",  # a client that goes away is not an error
        "ignore-write-errors",
        "tcp-nodelay",
        "py-call-uwsgi-fork-hooks",  # os.register_at_fork: an engine lets go of its connections
    }
    ours = [f"--{name}={value}" for name, value in options.items() if not in_environment(name)]
    ours += [f"--{name}" for name in sorted(flags) if not in_environment(name)]
    return [
        *ours,
        f"--pyargv={served['wsgi_app']}",
        "--module=chassis.server.uwsgi_app:application",
        "--hook-master-start=unix_signal:15 gracefully_kill_them_all",  # SIGTERM would reload it
    ]


def in_environment(option: str) -> bool:
    return f"UWSGI_{option.upper().replace('-', '_')}" in os.environ


def backlog(limit: Path = Path("/proc/sys/net/core/somaxconn")) -> int:
    """uWSGI refuses to start with more than the kernel's limit."""
    with suppress(OSError, ValueError):
        return min(BACKLOG, int(limit.read_text()))
    return 100


def stop(child: int, timeout: float, port: int) -> None:
    """Stops gracefully once no connection waits for a thread, and kills what is left after `timeout` seconds.

    uWSGI would leave connections in the kernel's queue, and would wait for requests in flight without end. It is told
    again and again, since once its workers are gone, it would sleep for up to a second.
    """
    begun, told = monotonic(), False

    def look(*_: object) -> None:
        nonlocal told
        waited = monotonic() - begun
        if waited > timeout:
            kill(child)
        elif told or waited > timeout / 2 or not queued(port):
            told = True
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, drain.LOOK / 10, drain.LOOK)


def queued(port: int) -> bool:
    """Whether connections to the port wait to be accepted; False where the kernel does not say (proc_net_tcp(5))."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for _, local, _, state, queues, *_ in map(str.split, Path(table).read_text().splitlines()):
                if state == "0A" and local.endswith(f":{port:04X}") and not queues.endswith(":00000000"):
                    return True
    return False


def kill(child: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)


def pass_on(printed: int) -> None:
    """Logs each line that uWSGI prints. It prints one when a worker ends, whose counts are then kept."""
    with open(printed, encoding="utf-8", errors="backslashreplace") as lines:
        for line in lines:
            if text := line.strip():
                log.log(logging.WARNING if TROUBLE(text) else logging.INFO, "%s", text)
            keep_counts(ended="trying respawn" in text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
