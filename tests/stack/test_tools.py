"""What an operator types while it runs, and what a newcomer types when it does not."""

import sys

import pytest
from harness import Stack, copy_tree, free_port, unique


@pytest.mark.containers
def test_psql_run_and_shell_work_inside_what_runs(production):
    counted = production.make("psql", input="SELECT 'rows', count(*) FROM notes;\n").stdout
    assert "rows" in counted
    ran = production.make(
        "run", """cmd=python -c 'import sys; print(sys.stdin.read() + "it is", *sys.argv[1:])' a --b""", input="x "
    )
    assert ran.stdout == "x it is a --b\n"
    failed = production.make("run", "cmd=python -c 'raise SystemExit(3)'", check=False)
    assert failed.returncode != 0
    shell = production.make("shell", input="print('app is', app.name)\n")
    assert "app is web" in shell.stdout


@pytest.mark.containers
@pytest.mark.parametrize("verb", ["shell", "psql"])
def test_where_nothing_runs_one_line_says_how_to_start(tmp_path, verb):
    run = Stack(copy_tree(tmp_path), unique("none")).make(verb, check=False)
    assert run.returncode != 0
    assert f"make {verb}: nothing runs here: start it with `make dev` or `make up`." in run.stderr


def doctor(stack, **environment):
    return stack.make("doctor", check=False, env={**stack.environment, **environment})


@pytest.fixture
def fresh(tmp_path):
    return Stack(copy_tree(tmp_path), unique("doctor"))


def test_doctor_finds_a_fresh_clone_well(fresh):
    run = doctor(fresh)
    assert "BAD" not in run.stdout
    assert run.returncode == 0


def test_doctor_names_a_missing_secret_an_unknown_setting_and_windows_line_ends(fresh):
    fresh.make("init")
    (fresh.directory / "secrets/web_password").unlink()
    with (fresh.directory / ".env").open("a") as env:
        env.write("LOG_LEVLE=DEBUG\n")
    script = fresh.directory / "docker/postgres/init/roles.sh"
    script.write_bytes(script.read_bytes().replace(b"\n", b"\r\n"))
    run = doctor(fresh)
    assert run.returncode != 0
    assert "BAD   secrets/ lacks web_password: `make init` writes it" in run.stdout
    assert "hint  .env sets LOG_LEVLE, which .env.example does not know" in run.stdout
    assert "BAD   docker/postgres/init/roles.sh has Windows line ends" in run.stdout
    assert all(line.split()[0] in ("ok", "hint", "BAD") for line in run.stdout.splitlines())


@pytest.mark.parametrize("port", ["eighty", "0", "70000"])
def test_a_malformed_port_is_one_line(fresh, port):
    run = fresh.run(
        sys.executable, "tools/dev.py", check=False, env={**fresh.environment, "DEV_PORT": port, "DOCKER": "no"}
    )
    assert run.returncode != 0
    assert "DEV_PORT must be a port from 1 to 65535" in run.stderr


def said(run):
    """What a failed make printed, without make's own last line."""
    assert run.returncode != 0
    return [line for line in run.stderr.splitlines() if not line.startswith("make: ***")]


def test_an_engine_that_does_not_answer_is_one_line(fresh):
    environment = {**fresh.environment, "DOCKER_HOST": "tcp://127.0.0.1:9"}
    (line,) = said(fresh.make("up", check=False, env=environment))
    assert "start Docker" in line or "Docker is not installed" in line


@pytest.mark.containers
@pytest.mark.parametrize("verb", ["up", "dev"])
def test_a_registry_out_of_reach_is_one_line_that_names_the_ways_out(fresh, verb):
    environment = {**fresh.environment, "REGISTRY": "nowhere.invalid/", "DEV_PORT": str(free_port())}
    (line,) = said(fresh.make(verb, check=False, env=environment))
    assert "nowhere.invalid/python:3.14-slim-trixie is not here and can't be pulled" in line
    assert "`make bases`" in line
    assert "REGISTRY=" in line
    assert fresh.containers() == []
