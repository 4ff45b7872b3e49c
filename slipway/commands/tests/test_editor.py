"""What editors read says the same as the code."""

import json
import os
import re
import subprocess
import sys

from slipway.proofs.harness import ROOT

LAUNCH = {each["name"]: each for each in json.loads((ROOT / ".vscode/launch.json").read_text())["configurations"]}
DEVCONTAINER = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())


def ports():
    """The default ports of `make debug`."""
    ask = "from slipway.commands.shared import debugger, inventory as all; print(all.find().dev_port, debugger.port())"
    plain = {name: value for name, value in os.environ.items() if name not in ("DEV_PORT", "DEBUG_PORT")}
    run = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, env=plain, capture_output=True, text=True, check=True)
    return [int(port) for port in run.stdout.split()]


def test_vs_code_attaches_to_the_port_that_make_debug_listens_on():
    attached = [each for each in LAUNCH.values() if each["request"] == "attach"]
    assert len(attached) == 2
    assert {each["connect"]["port"] for each in attached} == {ports()[1]}


def test_vs_code_knows_where_the_repository_is_in_the_container():
    (mapping,) = LAUNCH["Attach to make debug, with Docker"]["pathMappings"]
    mounts = re.findall(r"\.\./\.\.:(/app\S*)", (ROOT / "slipway/compose/service.yaml").read_text())
    assert {mapping["remoteRoot"]} == set(mounts)
    assert mapping["localRoot"] == "${workspaceFolder}"
    assert "pathMappings" not in LAUNCH["Attach to make debug, native"]


def test_vs_code_tests_the_open_file_in_the_environment_that_make_installs():
    assert LAUNCH["Test this file"]["module"] == "pytest"
    assert LAUNCH["Test this file"]["python"] == "${workspaceFolder}/.venv/bin/python"


def test_the_dev_container_forwards_both_ports_and_installs_the_environment():
    assert DEVCONTAINER["forwardPorts"] == ports()
    assert DEVCONTAINER["postCreateCommand"] == "make .venv/installed"


def test_the_dev_container_has_the_images_python():
    base = re.compile(r"^FROM \$\{REGISTRY\}python:(\S+)", re.MULTILINE)
    version = re.search(r"^ARG PYTHON=(\S+)", (ROOT / "docker/service.Dockerfile").read_text(), re.MULTILINE)[1]
    assert base.search((ROOT / ".devcontainer/Dockerfile").read_text())[1] == f"{version}-slim-trixie"
