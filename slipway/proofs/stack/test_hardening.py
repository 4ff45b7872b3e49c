"""Every container of production, as the engine describes it; deviations are listed in allowed.toml."""

import json
import re
import tomllib

import pytest

from slipway.commands.shared import egress
from slipway.proofs.harness import ROOT, SERVICES

pytestmark = pytest.mark.containers


def allowed(proxy):
    """The deviations that are allowed with this proxy."""
    listed = tomllib.loads((ROOT / "tests/allowed.toml").read_text())["deviation"]
    return {(name, "internal networks only", "outside") for name in egress.names()} | {
        (each["service"], each["rule"], each.get("value", "")) for each in listed if each.get("proxy", proxy) == proxy
    }


def deviations(stack):
    """Everything that breaks a rule, as (service, rule, value)."""
    networks = {name: internal(stack, name) for name in stack.networks()}
    for container in stack.containers():
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        for rule, value in found(container, networks):
            yield service, rule, value


def found(container, networks):
    host, config = container["HostConfig"], container["Config"]
    user, _, group = config["User"].partition(":")
    if not re.fullmatch(r"[1-9]\d*", user) or not re.fullmatch(r"[1-9]\d*", group):
        yield "numeric user and group", config["User"]
    if host["Privileged"]:
        yield "not privileged", ""
    if not host["ReadonlyRootfs"]:
        yield "read-only root", ""
    if host["CapDrop"] != ["ALL"]:
        yield "all capabilities dropped", str(host["CapDrop"])
    for capability in host["CapAdd"] or []:
        yield "no capabilities", capability
    if "no-new-privileges:true" not in (host["SecurityOpt"] or []):
        yield "no new privileges", ""
    if not host["PidsLimit"] or host["PidsLimit"] <= 0:
        yield "a limit on processes", ""
    if not host["Memory"]:
        yield "a limit on memory", ""
    if not host["NanoCpus"]:
        yield "a limit on CPUs", ""
    for name in ("PidMode", "IpcMode", "NetworkMode", "UTSMode", "UsernsMode"):
        if host[name] in ("host", "shareable"):
            yield "namespaces of its own", name
    for path, options in host.get("Tmpfs", {}).items():
        if "noexec" not in options or "size=" not in options:
            yield "tmpfs noexec and of limited size", path
    for mount in container["Mounts"]:
        if mount["Type"] == "bind" and mount["RW"]:
            yield "bind mounts read-only", mount["Destination"]
        if "docker.sock" in mount["Source"]:
            yield "no engine socket", mount["Destination"]
    log = host["LogConfig"]
    if log["Config"].get("mode") != "non-blocking" or "max-size" not in log["Config"]:
        yield "logs rotated and non-blocking", log["Type"]
    if any(container["NetworkSettings"]["Ports"].values()):
        yield "no published port", ""
    for name in container["NetworkSettings"]["Networks"]:
        short = name.removeprefix(container["Config"]["Labels"]["com.docker.compose.project"] + "_")
        if not networks[name]:
            yield "internal networks only", short
    for name, value in (pair.split("=", 1) for pair in config["Env"]):
        if re.search(r"PASSWORD|SECRET|TOKEN|KEY", name) and not name.endswith("_FILE") and value:
            yield "no secret in the environment", name


def internal(stack, network):
    return json.loads(stack.run("docker", "network", "inspect", network).stdout)[0]["Internal"]


def test_no_container_deviates_from_the_rules_but_where_it_is_allowed(production):
    seen = set(deviations(production))
    assert sorted(seen - allowed(production.proxy)) == []
    assert sorted(allowed(production.proxy) - seen) == []  # no longer needed: take them off the list


def test_no_secret_stands_in_what_the_engine_or_compose_tell(production):
    secrets = [text for path in (production.directory / "secrets").iterdir() if (text := path.read_text().strip())]
    told = [
        json.dumps(production.containers()),
        production.compose("config").stdout,
        production.compose("logs").stdout,
        production.run("docker", "history", "--no-trunc", production.container("web-a")["Config"]["Image"]).stdout,
    ]
    assert [text[:40] for text in told for secret in secrets if secret in text] == []


REACH = "import socket; socket.create_connection(('{host}', {port}), 3); print('reached')"


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 443), ("example.com", 80)])
def test_the_app_and_the_database_have_no_way_out(production, host, port):
    reach = ["python", "-c", REACH.format(host=host, port=port)]
    commands = {f"{service.name}-a": reach for service in SERVICES if service.serves}
    commands["db"] = ["bash", "-c", f"timeout 3 bash -c '</dev/tcp/{host}/{port}' && echo reached"]
    for name, command in commands.items():
        assert "reached" not in production.compose("exec", "-T", name, *command, check=False).stdout


def test_the_proxy_cannot_reach_the_database(production):
    address = next(iter(production.container("db")["NetworkSettings"]["Networks"].values()))["IPAddress"]
    run = production.compose("exec", "-T", "proxy", "nc", "-w", "3", address, "5432", check=False, input="")
    assert run.returncode != 0
