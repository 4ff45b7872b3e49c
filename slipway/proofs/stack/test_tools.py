"""What an operator types while production runs, and what a newcomer types when it does not."""

import json
import os
import subprocess
import sys

import pytest

from slipway.commands.shared import dotenv
from slipway.proofs.harness import Stack, copy_tree, free_port, unique


@pytest.mark.containers
def test_psql_run_and_shell_work_inside_what_runs(production):
    counted = production.make("psql", input="SELECT 'rows', count(*) FROM alembic_version;\n").stdout
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
def test_production_refuses_what_is_for_development_and_says_what_to_do(production):
    before = production.make("psql", input=r"\dt").stdout
    for verb, said in {
        "migrate": "production runs here, and migrates as a part of `make deploy`",
        "migration": "it is for development, and production runs here",
        "seed": "it is for development, and production runs here",
        "reset-db": "it is for development, and production runs here",
        "routes": 'make run cmd="flask routes"',
    }.items():
        (line,) = said_of(production.make(verb, "m=add tags", "yes=1", check=False))
        assert line.startswith(f"make {verb}: ")
        assert said in line
    assert production.make("psql", input=r"\dt").stdout == before
    assert "/health/live" in production.make("run", "cmd=flask routes").stdout


@pytest.mark.containers
def test_a_script_that_production_does_not_have_is_handed_over(production):
    script = production.directory / "script.py"
    script.write_text("import sys\nprint(sys.argv[1:], 'handed over')\n")
    (line,) = said_of(production.make("run", "cmd=python script.py", check=False))
    assert "make run cmd='python -' < script.py" in line
    with script.open() as source:
        assert production.make("run", "cmd=python - a", stdin=source).stdout == "['a'] handed over\n"


def doctor(stack, **environment):
    return stack.make("doctor", check=False, env={**stack.environment, **environment})


@pytest.fixture
def fresh(tmp_path):
    return Stack(copy_tree(tmp_path), unique("doctor"))


@pytest.mark.containers
def test_doctor_finds_a_fresh_clone_well(fresh):
    run = doctor(fresh)
    assert "BAD" not in run.stdout
    assert run.returncode == 0


@pytest.mark.containers
def test_doctor_names_a_missing_secret_an_unknown_setting_and_windows_line_ends(fresh):
    fresh.make("init")
    (fresh.directory / "secrets/web_password").unlink()
    with (fresh.directory / ".env").open("a") as env:
        env.write("LOG_LEVLE=DEBUG\n")
    script = fresh.directory / "slipway/postgres/roles.sh"
    script.write_bytes(script.read_bytes().replace(b"\n", b"\r\n"))
    run = doctor(fresh)
    assert run.returncode != 0
    assert "BAD   secrets/ lacks web_password: `make init` writes it" in run.stdout
    assert "hint  .env sets LOG_LEVLE, which .env.example does not know: did you mean LOG_LEVEL?" in run.stdout
    assert "BAD   slipway/postgres/roles.sh has Windows line ends" in run.stdout
    assert all(line.split()[0] in ("ok", "hint", "BAD") for line in run.stdout.splitlines())


@pytest.mark.parametrize("port", ["eighty", "0", "70000"])
def test_a_malformed_port_is_one_line(fresh, port):
    run = fresh.run(
        sys.executable,
        "-m",
        "slipway.commands",
        "dev",
        check=False,
        env={**fresh.environment, "DEV_PORT": port, "DOCKER": "no"},
    )
    assert run.returncode != 0
    assert "DEV_PORT must be a port from 1 to 65535" in run.stderr


def said_of(run):
    """The output of a failed make, without make's own last line."""
    assert run.returncode != 0
    return [line for line in run.stderr.splitlines() if not line.startswith("make: ***")]


@pytest.mark.containers
def test_an_engine_that_does_not_answer_is_one_line(fresh):
    environment = {**fresh.environment, "DOCKER_HOST": "tcp://127.0.0.1:9"}
    (line,) = said_of(fresh.make("up", check=False, env=environment))
    assert "start Docker" in line or "Docker is not installed" in line


@pytest.mark.containers
@pytest.mark.parametrize("verb", ["up", "dev"])
def test_a_registry_out_of_reach_is_one_line_that_names_the_ways_out(fresh, verb):
    environment = {**fresh.environment, "REGISTRY": "nowhere.invalid/", "DEV_PORT": str(free_port())}
    (line,) = said_of(fresh.make(verb, check=False, env=environment))
    assert "nowhere.invalid/python:3.14-slim-trixie is not here and can't be pulled" in line
    assert "`make bases`" in line
    assert "REGISTRY=" in line
    assert fresh.containers() == []


AWKWARD = r"""
A=8001
B="8001"
C='8001' # in quotes
D=x # a comment
E=x#none
F='a $A # b'
G="a\nb\t\"q\" \$A ${A}"
H=${NOWHERE:-default}
I=$A-$$A
export J=1
 K = spaces # around
L: yaml
M=
N=${M:-empty}${M-set}
O=a\nb
P=it's
Q=a"b"c
R= # all of it
S="two
lines"
T='it\'s \n'
U=${A:+other}${NOWHERE+none}
V=50%
W=a=b
X="\\n \x"
BARE
Y=$ \$A tail\
A=the last
"""


@pytest.mark.containers
def test_dotenv_is_read_as_compose_reads_it(tmp_path):
    """Uses only compose, without an engine or a container."""
    (tmp_path / ".env").write_text(AWKWARD)
    found = dotenv.in_file(tmp_path / ".env")
    assert len(found) > 20
    (tmp_path / "compose.yaml").write_text(json.dumps({"services": {}, "x-found": {n: f"${{{n}}}" for n in found}}))
    config = ["docker", "compose", "config", "--format", "json"]
    run = subprocess.run(config, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert {n: text.replace("$$", "$") for n, text in json.loads(run.stdout)["x-found"].items()} == found
