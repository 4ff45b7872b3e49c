"""`make debug`, with Docker and without, attached to as an editor does, with the Debug Adapter Protocol."""

import ast
import os
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from slipway.proofs.dap import Editor
from slipway.proofs.harness import Stack, copy_tree, free_port, unique, wait_until

VIEW = "services/web/src/web/home.py"


class Debugged:
    """`make debug`, running in `directory`; an editor finds the source in `remote`."""

    def __init__(self, directory: Path, native: bool) -> None:
        self.directory, self.remote = directory, str(directory) if native else "/app"
        self.port, self.debug_port = free_port(), free_port()
        settings = {"DOCKER": "no"} if native else {}
        self.stack = Stack(directory, unique("debug"), DEV_PORT=self.port, DEBUG_PORT=self.debug_port, **settings)
        with (directory / "debug.log").open("w") as log:
            self.process = subprocess.Popen(
                ["make", "debug"],
                cwd=directory,
                env=self.stack.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return (self.directory / "debug.log").read_text()

    def wait(self, times: int) -> None:
        """Waits until the app has asked for an editor that many times."""

        def asked() -> bool:
            if self.process.poll() is not None:
                pytest.fail(self.log)
            return self.log.count("waiting for an editor") == times

        wait_until("the app asks for an editor", asked, 240)

    def editor(self) -> Editor:
        return Editor(self.debug_port, self.directory, self.remote)

    def get(self, path: str = "/") -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=60)

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
            self.process.wait(60)
        self.stack.destroy()


@pytest.fixture(scope="module", params=[pytest.param("docker", marks=pytest.mark.containers), "native"])
def debugged(request, tmp_path_factory):
    debugged = Debugged(copy_tree(tmp_path_factory.mktemp("debug")), request.param == "native")
    try:
        debugged.wait(1)
        yield debugged
    finally:
        debugged.stop()


def first_line(path: Path, function: str) -> int:
    """The number of the function's first line after its docstring."""
    tree = ast.parse(path.read_text())
    view = next(each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == function)
    return view.body[1].lineno


def test_a_breakpoint_in_a_view_stops_there_and_the_next_session_has_what_was_saved_meanwhile(debugged):
    assert re.search(rf"localhost:{debugged.debug_port}\b.*VS Code.*PyCharm", debugged.log)
    view = debugged.directory / VIEW
    line = first_line(view, "page")
    with debugged.editor() as editor, ThreadPoolExecutor() as pool:
        editor.start(source={"path": str(view)}, breakpoints=[{"line": line}])
        page = pool.submit(wait_until, "the page", debugged.get)
        stopped = editor.event("stopped")
        assert stopped["reason"] == "breakpoint"
        top = editor.request("stackTrace", threadId=stopped["threadId"])["stackFrames"][0]
        assert (top["source"]["path"], top["line"]) == (str(view), line)
        editor.request("continue", threadId=stopped["threadId"])
        assert page.result(30).status_code == 200

        health = debugged.directory / "slipway/chassis/src/chassis/web/health.py"
        health.write_text(health.read_text().replace('status="alive"', 'status="saved while debugging"'))
        editor.request("setBreakpoints", source={"path": str(view)}, breakpoints=[])
        assert debugged.get("/health/live").json()["status"] == "alive"

    debugged.wait(2)
    with debugged.editor() as editor:
        editor.start(source={"path": str(view)}, breakpoints=[])
        state = wait_until("the app", lambda: debugged.get("/health/live").json()["status"])
        assert state == "saved while debugging"
    debugged.wait(3)  # and holds its port again, as the next tests expect


def test_both_ports_are_on_the_loopback_alone(debugged):
    run = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True)
    places = {line.split()[3] for line in run.stdout.splitlines()}
    for port in (debugged.port, debugged.debug_port):
        assert {place for place in places if place.endswith(f":{port}")} == {f"127.0.0.1:{port}"}


def test_a_port_that_is_taken_is_one_line(debugged):
    taken = {**debugged.stack.environment, "COMPOSE_PROJECT_NAME": unique("taken"), "DEV_PORT": str(free_port())}
    run = subprocess.run(
        ["make", "debug"], cwd=debugged.directory, env=taken, capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode != 0
    lines = [line for line in run.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 1
    assert f"cannot use port {debugged.debug_port}" in lines[0]
    assert f"make debug DEBUG_PORT={debugged.debug_port + 1}" in lines[0]


@pytest.mark.containers
def test_the_production_image_has_no_debugger(image):
    look = "import importlib.util as u; print([n for n in ('debugpy', 'devserver') if u.find_spec(n)])"
    command = ["docker", "run", "--rm", image, "python", "-c", look]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
