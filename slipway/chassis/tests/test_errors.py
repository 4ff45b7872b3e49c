"""Exceptions sent by sentry-sdk, of a service that runs as in production, to a receiver that reads real envelopes."""

import gzip
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from chassis_testing.running import SERVERS, SOON, TROUBLES, Running, Trouble, serving, wait_for

HERE = Path(__file__).parent
ALICE = "alice@example.org"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SENT = {"X-Request-ID": "request-number-9", "Cookie": f"name={ALICE}", "Authorization": f"Basic {ALICE}"}


class Receiver:
    """Keeps every item of the envelopes that it gets (develop.sentry.dev/sdk/data-model/envelopes)."""

    def __init__(self):
        self.events, self.others = [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/api/1/envelope/"
                _, rest = body.split(b"\n", 1)
                while rest:
                    header, rest = rest.split(b"\n", 1)
                    size = json.loads(header)["length"]
                    kind, item, rest = json.loads(header)["type"], json.loads(rest[:size]), rest[size:].lstrip(b"\n")
                    (receiver.events if kind == "event" else receiver.others).append(item)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://key@127.0.0.1:{self.server.server_address[1]}/1"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.mark.parametrize("server", SERVERS)
def test_an_exception_is_sent_with_release_environment_and_ids_and_nothing_of_the_request(
    tmp_path, address, receiver, server
):
    with serving(tmp_path, address, "", server, SENTRY_DSN=receiver.dsn, REVISION="0a1b2c3") as service:
        assert service.get(f"/people/x?secret={ALICE}", **SENT)[0] == 200
        assert service.get(f"/broken/x?secret={ALICE}", **SENT)[0] == 500
        wait_for(lambda: receiver.events)
    (event,) = receiver.events
    (raised,) = event["exception"]["values"]
    assert (raised["type"], raised["value"]) == ("ZeroDivisionError", "no such number")
    assert raised["stacktrace"]["frames"][-1]["context_line"].strip() == 'raise ZeroDivisionError("no such number")'
    assert not [frame for frame in raised["stacktrace"]["frames"] if "vars" in frame]
    assert (event["release"], event["environment"]) == ("traced@0a1b2c3", "test")
    assert event["tags"] == {"request_id": "request-number-9"}
    assert not {"request", "user", "breadcrumbs", "extra", "modules", "logentry"} & event.keys()
    assert ALICE not in json.dumps([*receiver.events, *receiver.others])
    assert not [item for item in receiver.others if "sid" in item or "spans" in item]  # neither sessions nor traces


def test_of_an_error_of_postgres_no_users_data_is_sent_and_the_traces_id_is(tmp_path, address, receiver):
    environment = {"SENTRY_DSN_FILE": str(tmp_path / "dsn"), "OTEL_TRACES_SAMPLER": "always_off"}
    (tmp_path / "dsn").write_text(f"{receiver.dsn}\n")
    with serving(tmp_path, address, "http://127.0.0.1:1", **environment) as service:
        assert service.get(f"/refused/{ALICE}", traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")[0] == 500
        (event,) = wait_for(lambda: receiver.events)
    assert {each["value"] for each in event["exception"]["values"]} == {"23505 people one_name"}
    assert event["tags"]["trace_id"] == TRACE
    assert ALICE not in json.dumps(event)


@pytest.mark.parametrize("arguments", [[], ["--month"]], ids=["worker", "script"])
def test_what_ends_a_worker_or_a_script_is_sent_before_it_ends(tmp_path, address, receiver, arguments):
    program = Running(tmp_path, address, "", "chassis.process.worker", *arguments, SENTRY_DSN=receiver.dsn)
    assert program.process.wait(SOON) == 1
    program.stop()
    (event,) = receiver.events
    assert event["exception"]["values"][-1]["value"] == "no such month"


@pytest.mark.alone
@pytest.mark.parametrize("server", ["gunicorn", "uwsgi"])
@pytest.mark.parametrize("trouble", ["is away", *TROUBLES])
def test_a_receiver_in_trouble_delays_no_request_and_no_stop(tmp_path, address, trouble, server):
    with Trouble(trouble) as receiver:
        dsn = receiver.url.replace("://", "://key@") + "/1"
        with serving(tmp_path, address, "", server, SENTRY_DSN=dsn) as service:
            slowest, stop = service.delays("/broken/x", 500, requests=20)
    assert slowest < 1
    assert stop < 4


@pytest.mark.parametrize(
    ("dsn", "hidden"), [("https://sentry.example.com/1", ""), ("https://key@sentry.example.com/1", "sentry_sdk")]
)
def test_what_can_not_work_is_one_line_that_says_what_to_do(tmp_path, address, dsn, hidden):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util; find = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name == {hidden!r} else find(name, *rest)"
    )
    command = SERVERS["gunicorn"]
    service = Running(tmp_path, address, "", *command, SENTRY_DSN=dsn, PYTHONPATH=f"{tmp_path}:{HERE}")
    assert service.process.wait(SOON) == 78
    service.stop()
    (line,) = service.log()
    said = "build it with EXTRAS=sentry" if hidden else "SENTRY_DSN must look like https://KEY@sentry.example.com/1."
    assert said in line["message"]


def test_off_nothing_of_it_is_imported(tmp_path, address):
    program = (
        "import sys, traced; from chassis.observe import telemetry; from chassis.settings import of_service\n"
        "telemetry.start(of_service().load()); print('sentry_sdk' in sys.modules)"
    )
    environ = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "SERVICE": "traced",
        "APP_ENV": "test",
        "DATABASE_URL": address.url,
    }
    for dsn, loaded in (("", "False"), ("http://key@127.0.0.1:1/1", "True")):
        run = subprocess.run(
            [sys.executable, "-c", program],
            env={**environ, "SENTRY_DSN": dsn},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert run.stdout.strip() == loaded, run.stderr
