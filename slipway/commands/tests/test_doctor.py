"""`make doctor`, each error simulated: what it says, and whether that blocks."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from slipway.commands import ROOT, deploy, doctor, init
from slipway.commands.shared import dotenv, engine, listeners, proxy
from slipway.commands.shared.stop import Stop
from slipway.proofs.harness import free_port, wait_until

BAD, HINT, OK = doctor.BAD, doctor.HINT, doctor.OK
NAMES = "PATH=\n#LOG_LEVEL=INFO\n#WEB_CPUS=1\nSITE_ADDRESS=localhost\n"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A checkout with everything that the checks look at, and no errors."""
    (tmp_path / ".env.example").write_text(NAMES)
    (tmp_path / ".env").write_text("SITE_ADDRESS=localhost\n")
    (tmp_path / ".env").chmod(0o600)
    (tmp_path / "backups").mkdir(mode=0o700)
    (tmp_path / "compose").mkdir()
    (tmp_path / "compose/prod.yaml").write_text("a: { file: ../secrets/secret_key }\n")
    (tmp_path / "secrets").mkdir(mode=0o700)
    (tmp_path / "secrets/secret_key").write_text("something")
    (tmp_path / "secrets/secret_key").chmod(0o644)
    (tmp_path / "docker").mkdir()
    for tool in (doctor, init, listeners):
        monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(dotenv, "FILE", tmp_path / ".env")
    for name in ("DEV_PORT", "HTTP_PORT", "HTTPS_PORT", "REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def docker(monkeypatch):
    """A healthy engine; `docker[words]` is what a command answers instead."""
    answers = {}

    def run(*command, **options):
        text = " ".join(command)
        code, out = next((answer for words, answer in answers.items() if words in text), (0, ""))
        if code == "late":
            raise engine.NoAnswer
        return SimpleNamespace(returncode=code, stdout=out, stderr="")

    monkeypatch.setattr(engine, "run", run)
    monkeypatch.setattr(engine, "problem", lambda *_: None)
    return answers


def only(check):
    """The only error that the doctor finds."""
    (finding,) = [finding for finding in check() if finding[0] != OK]
    return finding


def errors(check):
    return [finding for finding in check() if finding[0] != OK]


def test_a_tree_that_is_well_has_no_error(tree, docker):
    for check in (
        doctor.environment_file,
        doctor.secrets,
        doctor.backups,
        doctor.line_ends,
        doctor.owner,
        doctor.the_engine,
    ):
        assert errors(check) == []


def test_no_engine_is_a_hint_since_everything_runs_natively(tree, monkeypatch):
    monkeypatch.setattr(engine, "problem", lambda: "Docker is not installed: see its site")
    state, text = only(doctor.the_engine)
    assert (state, "run natively" in text) == (HINT, True)
    assert errors(doctor.base_images) == []


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts these lines of shell on the PATH as the engine's client, or as another program."""

    def write(*lines, name="docker"):
        path = tmp_path / "bin" / name
        path.parent.mkdir()
        path.write_text("\n".join(["#!/bin/sh", *lines]))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent), prepend=":")

    return write


def test_an_engine_that_is_busy_is_waited_for_and_whoever_waits_is_told(program, monkeypatch, capfd, tmp_path):
    idle = tmp_path / "idle"
    program(f"until [ -e {idle} ]; do sleep 0.01; done", "echo 28.0.0")
    monkeypatch.setattr(engine, "NOTICE", 0.01)
    with ThreadPoolExecutor(1) as pool:
        problem = pool.submit(engine.problem)
        wait_until("a word", lambda: "Waiting for the container engine to answer" in capfd.readouterr().err)
        idle.touch()
    assert problem.result() is None


def test_an_engine_that_says_nothing_is_one_line(program, monkeypatch):
    program("exec sleep 60")
    monkeypatch.setattr(engine, "TIMEOUT", 0.1)
    assert engine.problem() == "the container engine did not answer within 0.1 s: restart Docker"
    with pytest.raises(Stop, match="restart Docker"):
        engine.run("docker", "ps")
    monkeypatch.setattr(engine, "TIMEOUT", 60)
    assert engine.problem(0.2) == "the container engine did not answer within 0.2 s: restart Docker"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("permission denied while trying to connect to the Docker daemon socket", "add it to the group docker"),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock", "start Docker"),
    ],
)
def test_an_engine_out_of_reach_says_what_to_do(program, error, said):
    program(f"echo '{error}' >&2", "exit 1")
    assert said in engine.problem()


@pytest.mark.parametrize(("version", "said"), [("2.20.3", "2.20.3 is too old"), ("", "docker-compose-plugin")])
def test_an_old_or_missing_compose_is_named(docker, version, said):
    docker["compose version"] = (0, version)
    assert said in engine.compose_problem()


def test_without_buildx_nothing_can_be_built(docker):
    docker["buildx version"] = (1, "")
    assert only(doctor.the_engine) == (
        BAD, "Docker can't build with BuildKit: install the package docker-buildx-plugin"
    )  # fmt: skip


def test_an_engine_whose_clock_has_stood_still(docker):
    docker["SystemTime"] = (0, "2020-01-01T00:00:00.123456789Z")
    state, text = only(doctor.the_engines_clock)
    assert (state, "s off: restart Docker" in text) == (HINT, True)


@pytest.mark.parametrize("answer", [(1, ""), ("late", "")])
def test_a_registry_out_of_reach_blocks_and_names_both_ways_out(tree, docker, answer):
    docker["image inspect"] = (1, "")
    docker["manifest inspect"] = answer
    found = errors(doctor.base_images)
    assert {state for state, _ in found} == {BAD}
    assert all("`make bases`" in text and "REGISTRY=" in text for _, text in found)
    assert len(found) == len(engine.bases())


@pytest.mark.parametrize(("check", "command"), [(doctor.disk, None), (doctor.the_engines_disk, "DockerRootDir")])
def test_a_full_disk_blocks(tree, docker, monkeypatch, check, command):
    docker[command or "nothing"] = (0, str(tree))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e9))
    state, text = only(check)
    assert (state, text.startswith("1.0 GB free")) == (BAD, True)


def test_too_little_memory_is_a_hint(monkeypatch):
    monkeypatch.setattr(doctor, "MEMORY", 1e9)
    assert "of memory free: builds may be killed" in only(doctor.memory)[1]


def test_a_taken_port_names_the_process_that_holds_it(tree, docker, tmp_path_factory):
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    (tree / ".env").write_text(f"DEV_PORT={port}\nHTTP_PORT={free_port()}\nHTTPS_PORT={free_port()}\n")
    with subprocess.Popen(command, cwd=tmp_path_factory.mktemp("elsewhere"), stderr=subprocess.DEVNULL) as process:
        try:
            while not listeners.taken(port):
                assert process.poll() is None
            state, text = only(doctor.ports)
        finally:
            process.kill()
    assert state == HINT
    assert text.startswith(f"port {port} (DEV_PORT) is taken by python")
    assert f"(process {process.pid})" in text


def test_without_proc_lsof_says_what_holds_a_port(program):
    program(
        'case "$*" in *cwd*) echo p42; echo n/elsewhere ;; *) echo p42; echo cPython; echo n127.0.0.1:8000 ;; esac',
        name="lsof",
    )
    assert listeners.by_lsof(8000) == (42, "Python", Path("/elsewhere"))


def test_a_taken_port_names_the_container_and_is_silent_on_our_own(tree, docker, monkeypatch):
    monkeypatch.setattr(listeners, "taken", lambda port: port == 80)
    docker["publish=80"] = (0, "other-proxy-1 com.docker.compose.project.working_dir=/elsewhere\n")
    assert "is taken by the container other-proxy-1: stop that, or set HTTP_PORT in .env" in only(doctor.ports)[1]
    docker["publish=80"] = (0, f"ours com.docker.compose.project.working_dir={tree}\n")
    assert errors(doctor.ports) == []


def test_a_port_that_is_none_blocks(tree, docker, monkeypatch):
    monkeypatch.setattr(listeners, "taken", lambda port: False)
    (tree / ".env").write_text("HTTP_PORT=eighty\n")
    assert only(doctor.ports) == (BAD, "HTTP_PORT must be a port from 1 to 65535, not 'eighty'")


@pytest.mark.parametrize(
    ("line", "state", "said"),
    [
        ("LOG_LEVLE=DEBUG", HINT, "LOG_LEVLE, which .env.example does not know: did you mean LOG_LEVEL?"),
        ("ENTIRELY_ELSE=1", HINT, "ENTIRELY_ELSE, which .env.example does not know: an older release's?"),
        ("SECRET_KEY=abc", BAD, ".env sets SECRET_KEY, and compose names its file"),
        ("SITE_ADDRESS=", BAD, "no SITE_ADDRESS"),
        ("SITE_ADDRESS=www.example.com", HINT, "is an example"),
        ("DATABASE_URL=postgresql://web:words@db.example/web", BAD, "has a password, which `docker inspect` shows"),
        ("DATABASE_URL=postgresql://there\nCOMPOSE_PROFILES=backup", BAD, "is for a database of this stack"),
    ],
)
def test_what_is_wrong_in_dotenv_is_named_with_the_way_out(tree, line, state, said):
    (tree / ".env.example").write_text(f"{NAMES}#SECRET_KEY=\n#DATABASE_URL=\n")
    (tree / ".env").write_text(f"SITE_ADDRESS=localhost\n{line}\n")
    found = only(doctor.environment_file)
    assert found[0] == state
    assert said in found[1]


def test_a_line_of_dotenv_that_is_not_understood_blocks(tree):
    (tree / ".env").write_text('SITE_ADDRESS="localhost\n')
    for check in (doctor.environment_file, doctor.ports):
        ((state, text),) = doctor.findings_of(check)
        assert state == BAD
        assert ".env, line 1, can't be understood (SITE_ADDRESS)" in text


def test_what_compose_and_deploy_write_into_dotenv_is_known(tree):
    (tree / ".env").write_text("SITE_ADDRESS=localhost\nCOMPOSE_PROFILES=backup\nPREVIOUS_TAG=a\nWEB_CPUS=2\n")
    assert errors(doctor.environment_file) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "secret_key").unlink(), "secrets/ lacks secret_key: `make init` writes it"),
        (lambda folder: (folder / "secret_key").write_text("\n"), "secrets/secret_key is empty"),
        (lambda folder: (folder / "secret_key").chmod(0o600), "chmod 644 secrets/secret_key"),
        (lambda folder: folder.chmod(0o755), "chmod 700 secrets"),
    ],
)
def test_secrets_that_are_missing_empty_or_open_block(tree, spoil, said):
    spoil(tree / "secrets")
    state, text = only(doctor.secrets)
    assert state == BAD
    assert said in text


def test_a_rotation_that_was_interrupted_is_named_with_what_ends_it(tree):
    (tree / "secrets/.secret_key.next").touch()
    assert "make rotate-secret s=secret_key" in only(doctor.secrets)[1]


def test_backups_and_dotenv_that_others_can_read_are_named_with_the_command(tree, monkeypatch):
    (tree / "backups").chmod(0o755)
    (tree / ".env").chmod(0o644)
    state, text = only(doctor.backups)
    assert (state, text.endswith(": chmod 700 backups")) == (BAD, True)
    assert only(doctor.environment_file) == (HINT, ".env can be read by others: chmod 600 .env")
    monkeypatch.setattr(doctor.os, "getuid", lambda: 4242)
    assert only(doctor.backups)[1].endswith(": sudo chown 4242 backups; chmod 700 backups")


def test_windows_line_ends_in_a_script_block(tree):
    (tree / "docker/start.sh").write_bytes(b"#!/bin/sh\r\n")
    assert only(doctor.line_ends)[0] == BAD
    assert "core.autocrlf" in only(doctor.line_ends)[1]


def test_files_of_another_user_block_and_root_is_warned(tree, monkeypatch):
    monkeypatch.setattr(doctor.os, "getuid", lambda: tree.stat().st_uid + 1)
    state, text = only(doctor.owner)
    assert (state, "sudo chown -R" in text) == (BAD, True)
    monkeypatch.setattr(doctor.os, "getuid", lambda: 0)
    monkeypatch.setattr(type(tree), "stat", lambda self, **_: SimpleNamespace(st_uid=1000))
    assert next(doctor.owner())[1].startswith("you are root, and the tree is user 1000's")


def test_a_stale_dev_uid_is_named(tree, monkeypatch):
    (tree / ".env").write_text("DEV_UID=4242\n")
    assert ".env sets DEV_UID=4242" in only(doctor.owner)[1]


def test_a_mount_that_tells_nobody_of_a_save(tree, monkeypatch):
    monkeypatch.setattr(doctor, "file_system", lambda: "9p")
    assert "RELOAD=poll" in only(doctor.place)[1]


def test_too_few_inotify_watches(tree, monkeypatch):
    monkeypatch.setattr(doctor, "file_system", lambda: "ext4")
    monkeypatch.setattr(doctor, "WATCHES", 10**12)
    assert "sysctl fs.inotify.max_user_watches" in only(doctor.place)[1]


def test_an_index_out_of_reach_is_named_where_packages_are_missing(tree, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple/")
    assert "http://127.0.0.1:9/simple/ can't be reached" in only(doctor.packages)[1]
    (tree / ".venv").mkdir()
    (tree / ".venv/installed").touch()
    assert errors(doctor.packages) == []


def test_a_check_that_fails_itself_is_one_line():
    def the_moon():
        raise OSError("too far")

    assert doctor.findings_of(the_moon) == [(HINT, "the moon: the check itself failed (too far)")]


def test_an_invalid_caddyfile_is_one_line_while_a_proxy_runs(docker, monkeypatch):
    monkeypatch.setattr(proxy, "problem", lambda: "unrecognized directive: tsl")
    assert errors(doctor.proxy_configuration) == []
    docker["ps --quiet --status running proxy"] = (0, "0123456789ab\n")
    state, text = only(doctor.proxy_configuration)
    assert state == BAD
    assert text.startswith("docker/proxy/caddy/Caddyfile: the proxy serves with the last configuration that worked")
    assert text.endswith(": unrecognized directive: tsl")
    monkeypatch.setattr(proxy, "problem", lambda: None)
    assert errors(doctor.proxy_configuration) == []


@pytest.mark.parametrize(
    ("kernel", "bad"), [("4.18.0-553.el8.x86_64", True), ("5.14.0-503.el9", False), ("6.18", False)]
)
def test_a_kernel_that_lacks_what_the_listener_sets_is_one_line_with_a_way_out(tree, docker, kernel, bad):
    (tree / ".env").write_text("SITE_ADDRESS=localhost\n")
    (tree / "compose").mkdir(exist_ok=True)
    (tree / "compose/prod.yaml").write_text((ROOT / "compose/prod.yaml").read_text())
    docker["KernelVersion"] = (0, f"{kernel}\n")
    found = errors(doctor.kernel)
    assert [state for state, _ in found] == [BAD] * bad
    assert all("take sysctls out of compose/prod.yaml" in text for _, text in found)


def test_what_the_servers_read_themselves_is_known(tree):
    (tree / ".env").write_text('SITE_ADDRESS=localhost\nGUNICORN_CMD_ARGS="--threads 2"\nUWSGI_PROCESSES=3\n')
    assert not errors(doctor.environment_file)


@pytest.mark.parametrize(("name", "known"), [("SERVER", "gunicorn or uwsgi"), ("VARIANT", "full or minimal")])
def test_an_image_that_there_is_not_is_one_line(tree, name, known, monkeypatch):
    (tree / ".env").write_text(f"SITE_ADDRESS=localhost\n{name}=other\n")
    (tree / ".env.example").write_text(f"{NAMES}#{name}=\n")
    (tree / ".env").chmod(0o600)
    assert only(doctor.environment_file) == (BAD, f"{name} must be {known}, not 'other'")
    monkeypatch.setattr(engine, "problem", lambda: None)
    with pytest.raises(Stop, match=f"{name} must be {known}"):
        deploy.check()


def test_a_proxy_that_there_is_not_is_one_line(docker, monkeypatch):
    monkeypatch.setenv("PROXY", "apache")
    assert only(doctor.proxy_configuration) == (BAD, "PROXY must be caddy or nginx, not 'apache'")
    with pytest.raises(Stop, match="PROXY must be caddy or nginx"):
        proxy.name()


def test_only_the_bases_in_use_are_pulled(monkeypatch):
    for name, base in (("caddy", "caddy:2"), ("nginx", "nginx:1.30")):
        monkeypatch.setenv("PROXY", name)
        assert engine.bases()[2:] == [base]
    monkeypatch.setattr(engine.egress, "names", lambda: ["web-egress"])
    assert engine.bases()[2:] == ["nginx:1.30", "haproxy:3.2"]


def test_everything_is_based_on_one_python():
    files = [*ROOT.glob("compose/*.yaml"), *ROOT.glob("docker/proxy/*/Dockerfile")]
    named = {name for path in files for name in re.findall(r"\}(python:\S+)", path.read_text())}
    assert named == {engine.bases()[0]}


@pytest.mark.parametrize(
    ("line", "possible", "state", "said"),
    [
        ("EDGE_IPV6=true", True, None, ""),
        ("EDGE_IPV6=true", False, BAD, "takes Docker 27 or later"),
        ("EDGE_IPV6=false", True, None, ""),
        ("", True, HINT, "EDGE_IPV6=true in .env"),
        ("", False, None, ""),
    ],
)
def test_ipv6_is_asked_for_where_the_engine_can_and_there_alone(tree, monkeypatch, line, possible, state, said):
    (tree / ".env").write_text(f"SITE_ADDRESS=localhost\n{line}\n")
    monkeypatch.setattr(engine, "has_ipv6", lambda: possible)
    found = errors(doctor.ipv6)
    assert [each for each, _ in found] == [state] * bool(state)
    assert said in "".join(text for _, text in found)


@pytest.mark.parametrize(
    ("version", "kernel", "written"),
    [("28.5.2", True, "EDGE_IPV6=true"), ("26.1.5", True, "#EDGE_IPV6=false"), ("28.5.2", False, "#EDGE_IPV6=false")],
)
def test_make_init_turns_ipv6_on_where_the_engine_can(tree, docker, tmp_path, monkeypatch, version, kernel, written):
    docker["docker version"] = (0, version)
    monkeypatch.setattr(engine, "NET", tmp_path)
    if kernel:
        (tmp_path / "if_inet6").touch()
    (tree / ".env.example").write_text("#EDGE_IPV6=false\n")
    (tree / ".env").unlink()
    init.write_env()
    assert (tree / ".env").read_text() == f"{written}\n"
