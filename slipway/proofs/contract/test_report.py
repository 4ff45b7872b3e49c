"""The contract finds what is wrong with an image that keeps no promise, and reports it with helpful advice."""

import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from slipway.proofs.contract import contents, promises, report
from slipway.proofs.contract.promises import LEFTOVERS, PROMISES, Broken, NotJudged, Promise
from slipway.proofs.harness import ROOT, wait_until

REPORT = [sys.executable, "-m", report.__name__]
BASE = f"{os.environ.get('REGISTRY', '')}python:3.14-slim-trixie"

containers = pytest.mark.containers

DOCKERFILE = f"""
FROM {BASE}
RUN touch /usr/bin/make /var/lib/apt/lists/mirror_InRelease && chmod u+s /usr/bin/make
WORKDIR /app
COPY . .
RUN rm .env
ENV API_TOKEN=hunter2hunter2
LABEL org.opencontainers.image.base.name=python:latest
HEALTHCHECK CMD exit 0
STOPSIGNAL SIGINT
ENTRYPOINT exec python server.py
"""

# Writes to its own directory, returns any id that it is sent, and logs in no format.
SERVER = """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("X-Request-ID", self.headers.get("X-Request-ID", ""))
        self.send_header("Content-Length", "0")
        self.end_headers()

Path("started").touch()
ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""

# What the report says about it, by the promise's number.
SEEN = {
    1: "runs as root (User is empty)",
    2: "is based on python:latest",
    3: "the check passes although the server answers 503",
    4: "setuid or setgid /usr/bin/",
    5: "API_TOKEN in the environment, a file made to hold secrets in /app/.env (deleted later",
    6: "a compiler (/usr/bin/make), apt's lists (/var/lib/apt/lists/mirror_InRelease), tests (/app/tests/test_it.py)",
    7: "its user is root",
    8: "STOPSIGNAL is SIGINT",
    9: "the command is ignored",
    10: "has no label org.opencontainers.image.version",
    14: "an orphan stays a zombie: PID 1, `python server.py`, does not reap it",
    15: "it still runs 10 s after SIGTERM",
    16: "SIGINT loses a request that is being sent",
    17: "SIGTERM has no effect",
    18: "SIGTERM has no effect",
    19: "not judged: one process serves",
    21: "lines are on stderr",
    22: "a forged X-Request-ID is returned",
    23: "Read-only file system: 'started'",
    24: "Permission denied: 'started'",
}


@pytest.fixture(scope="module")
def broken_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory, name = tmp_path_factory.mktemp("broken"), f"slipway-test/broken:{secrets.token_hex(3)}"
    (directory / "tests").mkdir()
    for path, text in {
        "Dockerfile": DOCKERFILE,
        "server.py": SERVER,
        ".env": "API_TOKEN=hunter2",
        "tests/test_it.py": "",
    }.items():
        (directory / path).write_text(text)
    subprocess.run(["docker", "build", "--quiet", "--tag", name, directory], check=True, capture_output=True)
    yield name
    subprocess.run(["docker", "rmi", "--force", name], check=False, capture_output=True)


def run(**settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        REPORT, cwd=ROOT, env=environment(settings), capture_output=True, text=True, check=False, timeout=300
    )


def environment(settings: dict[str, str]) -> dict[str, str]:
    ours = {"IMAGE", "PORT", "HEALTH", "SLOW", "MIGRATE", "ENV"}
    return {name: value for name, value in os.environ.items() if name not in ours} | settings


@containers
def test_an_image_that_keeps_nothing_is_told_so_promise_by_promise(broken_image):
    done = run(IMAGE=broken_image, HEALTH="/")
    assert done.returncode == 1
    assert done.stderr == ""
    assert "\033" not in done.stdout
    said = dict(re.findall(r"^[✓✗?] +(\d+)  .*\n((?:       .*\n)+)", done.stdout, re.MULTILINE))
    assert {int(number) for number in said} == {promise.number for promise in PROMISES}, done.stdout
    wrong = {number: said[str(number)] for number, words in SEEN.items() if words not in said[str(number)]}
    assert not wrong
    assert done.stdout.splitlines()[-1] == f"kept 0 of {len(PROMISES)} promises (1 not judged)"


@containers
def test_ctrl_c_leaves_nothing_behind(broken_image):
    def labels() -> str:
        return docker("ps", "--filter", f"ancestor={broken_image}", "--format", '{{.Label "slipway.contract"}}').strip()

    process = subprocess.Popen(
        REPORT,
        cwd=ROOT,
        env=environment({"IMAGE": broken_image}),
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    run_name = wait_until("a container of the image runs", labels, 60).splitlines()[0]
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    process.stdout.close()
    mine = ("--quiet", "--filter", f"label=slipway.contract={run_name}")
    assert docker("ps", "--all", *mine) == ""
    assert docker("network", "ls", *mine) == ""


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "IMAGE is not set: make contract IMAGE=any/image:tag"),
        ({"IMAGE": "a", "PORT": "http"}, "PORT is 'http': it must be a number"),
        ({"IMAGE": "a", "HEALTH": "ready"}, "HEALTH is 'ready': it must be a path, such as /ready"),
        ({"IMAGE": "a", "ENV": "DEBUG"}, "ENV holds 'DEBUG', which sets nothing"),
        ({"IMAGE": "a", "ENV": "A='b"}, "ENV can't be read: No closing quotation"),
        ({"IMAGE": "a", "MIGRATE": "sh -c 'x"}, "MIGRATE can't be read: No closing quotation"),
        ({"IMAGE": "a", "PATH": "/nowhere"}, "docker is not on the PATH"),
        pytest.param({"IMAGE": "no/such:image"}, "there is no image no/such:image here", marks=containers),
        pytest.param({"IMAGE": BASE}, "ended with exit code 0 before it served", marks=containers),
        pytest.param({"IMAGE": BASE, "MIGRATE": "python -c 'exit(4)'"}, "MIGRATE failed", marks=containers),
    ],
)
def test_where_nothing_can_be_judged_one_line_says_why(settings, words):
    done = run(**settings)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_only_an_image_that_keeps_all_is_a_success(monkeypatch, capsys):
    def kept(subject) -> str:
        return "how well"

    def unknown(subject) -> None:
        raise NotJudged("no telling")

    monkeypatch.setattr(report, "PROMISES", [Promise(1, "Image", "It is good", "", kept)] * 2)
    subject = type("Subject", (), {"image": "an/image"})()
    assert report.report(subject) == 0
    assert "✓   1  It is good  (how well)" in capsys.readouterr().out
    monkeypatch.setattr(report, "PROMISES", [Promise(1, "Image", "It is good", "", unknown)])
    assert report.report(subject) == 1
    assert "kept 0 of 1 promises (1 not judged)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "ENV SECRET_KEY=hunter2hunter2",
        "RUN |1 NPM_TOKEN=abcdef /bin/sh -c npm ci",
        "ARG db_password='swordfish'",
        "RUN pip install --index-url https://me:swordfish@pypi.example/simple",
        "RUN echo AKIAABCDEFGHIJKLMNOP",
    ],
)
def test_a_secret_in_a_command_is_found_and_not_repeated(text):
    found = list(contents.secrets_in_text(text))
    assert len(found) == 1
    assert not re.search("hunter2|abcdef|swordfish|AKIAA", found[0])


@pytest.mark.parametrize(
    "text",
    [
        "ENV PYTHON_VERSION=3.14.8 GPG_KEY=7169605F62C751356D054A26A821E680E5FA6305",
        "ENV SECRET_KEY_FILE=/run/secrets/secret_key",
        "RUN SECRET_KEY=dummy flask assets build",
        "RUN --mount=type=secret,id=token pip install --index-url https://$USER:$TOKEN@pypi.example/simple",
        "ENV API_KEY= TOKEN_LIFETIME=3600 PASSWORD=$GIVEN",
        "RUN echo AKIAIOSFODNN7EXAMPLE",
    ],
)
def test_what_only_looks_like_a_secret_is_let_be(text):
    assert list(contents.secrets_in_text(text)) == []


KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + b"b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtz\n"


@pytest.mark.parametrize(
    ("path", "content", "secret"),
    [
        ("app/deploy", KEY, True),
        ("opt/venv/lib/python3.14/site-packages/package/tests/key.pem", KEY, False),
        ("app/docs.md", b"starts with -----BEGIN PRIVATE KEY-----", False),
        ("app/.env.production", b"A=b", True),
        ("app/.env.example", b"A=b", False),
        ("app/.env", b"", False),
        ("root/.netrc", b"machine a login b password c", True),
        ("etc/pip.conf", b"[global]\nindex-url = https://me:token@pypi.example/simple", True),
        ("etc/pip.conf", b"[global]\nindex-url = https://pypi.example/simple", False),
        ("etc/shadow", b"root:*:1:0:99999:7:::\napp:$y$j9T$abc:1:0:99999:7:::\n", True),
        ("etc/shadow", b"root:*:1:0:99999:7:::\n", False),
    ],
)
def test_secrets_in_files_are_told_from_what_is_public(path, content, secret):
    assert bool(contents.secret_in_file(path, content)) is secret


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("usr/bin/x86_64-linux-gnu-gcc-14", "a compiler"),
        ("usr/bin/g++", "a compiler"),
        ("root/.local/bin/uv", "uv"),
        ("root/.cache/pip/http-v2/a/b", "a package cache"),
        ("var/cache/apt/archives/curl.deb", "a package cache"),
        ("app/.git/HEAD", "a repository"),
        ("srv/app/test_views.py", "tests"),
        ("usr/bin/gcore", None),
        ("etc/uv/uv.toml", None),
        ("var/lib/apt/lists/lock", None),
        ("app/contest/views.py", None),
    ],
)
def test_what_only_a_build_needs_is_told_from_the_rest(path, what):
    assert [name for name, pattern in LEFTOVERS.items() if re.fullmatch(pattern, path)] == ([what] if what else [])


@pytest.mark.parametrize(
    ("command", "shell_form"),
    [
        (["/bin/sh", "-c", "gunicorn app:app"], True),
        (["/bin/bash", "-o", "pipefail", "-c", "gunicorn app:app"], True),
        (["sh", "-c", "exec gunicorn app:app"], False),
        (["gunicorn", "-c", "gunicorn.conf.py"], False),
    ],
)
def test_shell_form_is_told_from_exec_form(command, shell_form):
    subject = type("Subject", (), {"config": {"Cmd": command}})()
    if shell_form:
        with pytest.raises(Broken, match="CMD is in shell form"):
            promises.its_command_is_in_exec_form_and_stopped_by_sigterm(subject)
    else:
        promises.its_command_is_in_exec_form_and_stopped_by_sigterm(subject)
