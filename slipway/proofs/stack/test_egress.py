"""A service's way out, from inside its containers: to the hosts that it names, and to nothing else."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from slipway.proofs.forks.fork import Fork, complaint
from slipway.proofs.harness import ROOT, ports, wait_until
from slipway.proofs.stack.test_hardening import deviations

pytestmark = pytest.mark.containers

WEB = ["api.example.com:443", "db.example.com:5432"]
WAYS = {"web-egress", "web-egress-db-example-com", "tick-egress-mail-example-com"}
CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout key.pem -out cert.pem"
    " -subj /CN=outside -addext subjectAltName=DNS:*.example.com"
)
# Every host: TLS on three ports, one of which no service names. It tells each connection.
HOSTS = """\
import socketserver, ssl, threading

class Answers(socketserver.StreamRequestHandler):
    def handle(self):
        port = self.server.server_address[1]
        print("connected", port)
        with context.wrap_socket(self.request, server_side=True) as tls, tls.makefile("rwb", 0) as stream:
            for line in stream:
                if line.startswith(b"POST "):
                    print(line.decode().strip())
                stream.write(b"HTTP/1.0 200 OK\\r\\n\\r\\nfrom outside" if line == b"\\r\\n" else b"")
                if line == b"\\r\\n":
                    break
                if line == b"ping\\n":
                    stream.write(b"pong\\n")

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/hosts/cert.pem", "/hosts/key.pem")
for port in (443, 465, 8443):
    server = socketserver.ThreadingTCPServer(("", port), Answers)
    threading.Thread(target=server.serve_forever).start()
print("ready")
"""
# What an app does: no setting names a proxy.
ASK = """\
import ssl, sys, urllib.request
context = ssl.create_default_context(cadata=sys.argv[1])
print(urllib.request.urlopen(sys.argv[2], context=context, timeout=3).read().decode())
"""
# What else it could try, a line each: an address, a port, the name in the handshake, or something that is not TLS.
TRY = """\
import socket, ssl, sys
context = ssl.create_default_context(cadata=sys.argv[1])

def said(address, port, name):
    context.check_hostname = name != "none"
    try:
        with socket.create_connection((address, int(port)), 3) as stream:
            if name != "plain":
                stream = context.wrap_socket(stream, server_hostname=None if name == "none" else name)
            stream.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            return "reached" if stream.recv(100) else "closed"
    except OSError as error:
        return repr(error)

for line in sys.argv[2:]:
    print(said(*line.split()))
"""
# Asks twice on one connection, the second time when it is told to.
HOLD = """\
import socket, ssl, sys
context = ssl.create_default_context(cadata=sys.argv[1])
stream = socket.create_connection(("api.example.com", 443), 5)
with context.wrap_socket(stream, server_hostname="api.example.com") as tls:
    for _ in range(2):
        tls.sendall(b"ping\\n")
        print(tls.recv(100).decode(), end="")
        sys.stdin.readline()
"""
# As a service sends its exceptions by sentry-sdk; only the authority of the certificate is the test's own.
FAIL = """\
import logging, os, sys
open("/tmp/authority.pem", "w").write(sys.argv[1])
os.environ |= {"SENTRY_DSN": "https://key@api.example.com/7", "SSL_CERT_FILE": "/tmp/authority.pem"}
from chassis import settings
from chassis.observe import telemetry
telemetry.start(settings.of_service().load())
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("app").exception("it failed")
telemetry.stop()
"""
QUERY = """\
import psycopg2
with psycopg2.connect(host="db.example.com", user="postgres", dbname="postgres", connect_timeout=3) as connection:
    cursor = connection.cursor()
    cursor.execute("SELECT inet_server_addr()")
    print(cursor.fetchone()[0])
"""


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fork]:
    """A fork in which web and the worker tick have ways out, started before any host outside is there."""
    hosts = tmp_path_factory.mktemp("hosts")
    subprocess.run(CERTIFICATE.split(), cwd=hosts, check=True, capture_output=True)
    (hosts / "key.pem").chmod(0o644)
    (hosts / "hosts.py").write_text(HOSTS)
    files = f"compose.yaml:{ROOT}/slipway/proofs/stack/egress.yaml"
    fork = Fork(tmp_path_factory.mktemp("egress"), COMPOSE_FILE=files, HOSTS=hosts, EXTRAS="sentry", **ports())
    fork.certificate = (hosts / "cert.pem").read_text()
    try:
        fork.run(sys.executable, "-m", "slipway.commands", "service", "name=tick", "kind=worker")
        allow(fork, "web", *WEB)
        allow(fork, "tick", "mail.example.com:465")
        fork.make("egress")
        fork.make("init")
        fork.compose("up", "--build", "--detach", "--wait", "web-a", "web-b", "tick")
        fork.states = fork.compose("ps", "--format", "{{.Service}} {{.Health}}").stdout.splitlines()
        fork.compose("up", "--detach", "hosts", "elsewhere")
        wait_until("the hosts", lambda: "ready" in told(fork))
        wait_until("the database elsewhere", lambda: len(python(fork, "web-a", QUERY)) == 1)
        yield fork
    finally:
        fork.destroy()


def allow(fork: Fork, service: str, *entries: str) -> None:
    project = f"services/{service}/pyproject.toml"
    lines = [line for line in fork.read(project).splitlines() if not line.startswith("egress")]
    lines.insert(lines.index("[tool.slipway]") + 1, f"egress = {list(entries)}")
    fork.write(project, "\n".join(lines) + "\n")


def told(fork: Fork) -> str:
    return fork.compose("logs", "--no-log-prefix", "hosts").stdout


def python(fork: Fork, service: str, program: str, *arguments: str) -> list[str]:
    """The lines that the program prints in a container of the service, its traceback included."""
    run = fork.compose("exec", "-T", service, "python", "-c", program, *arguments, check=False)
    return (run.stdout + run.stderr).splitlines()


def address(fork: Fork, service: str, network: str) -> str:
    return fork.container(service)["NetworkSettings"]["Networks"][f"{fork.project}_{network}"]["IPAddress"]


def test_it_gets_ready_while_no_host_is_there(fork):
    assert {f"{name} healthy" for name in ("web-a", "web-b", "tick", *WAYS)} <= set(fork.states)


def test_it_reaches_the_host_that_it_named_whose_own_certificate_it_verifies(fork):
    for replica in ("web-a", "web-b"):
        assert python(fork, replica, ASK, fork.certificate, "https://api.example.com/") == ["from outside"]


def test_it_reaches_a_database_elsewhere(fork):
    assert python(fork, "web-a", QUERY) == [address(fork, "elsewhere", "outside")]


def test_its_exceptions_leave_by_the_same_way(fork):
    python(fork, "web-a", FAIL, fork.certificate)
    wait_until("the exception", lambda: "POST /api/7/envelope/ HTTP/1.1" in told(fork))


def test_a_worker_has_a_way_out_too(fork):
    assert python(fork, "tick", TRY, fork.certificate, "mail.example.com 465 mail.example.com") == ["reached"]


def test_it_reaches_nothing_else(fork):
    host, mail = address(fork, "hosts", "outside"), address(fork, "tick-egress-mail-example-com", "tick-egress")
    tried = {
        "other.example.com 443 other.example.com": "gaierror",  # no service named it
        "mail.example.com 465 mail.example.com": "gaierror",  # another service did
        f"{host} 443 api.example.com": "unreachable",
        "api.example.com 443 other.example.com": "EOF",  # another name in the handshake
        "api.example.com 443 none": "EOF",
        "api.example.com 8443 api.example.com": "refused",
        "api.example.com 5432 plain": "refused",  # the port of another host
        "api.example.com 443 plain": "closed",
        f"{mail} 465 mail.example.com": "unreachable",  # another service's way out
    }
    before = told(fork)
    found = dict(zip(tried, python(fork, "web-a", TRY, fork.certificate, *tried), strict=True))
    assert {what: said for what, said in found.items() if tried[what] not in said} == {}
    assert told(fork) == before


def test_a_container_without_a_way_out_finds_no_host(fork):
    run = fork.compose("exec", "-T", "db", "getent", "hosts", "api.example.com", check=False)
    assert run.returncode == 2


def test_only_the_ways_out_stand_outside_and_they_are_hardened_as_every_container(fork):
    found = {each for each in deviations(fork) if each[0] not in ("hosts", "elsewhere")}
    assert {service for service, _, network in found if network == "outside"} == WAYS
    assert {each for each in found if each[0] in WAYS} == {(way, "internal networks only", "outside") for way in WAYS}


def test_a_longer_list_takes_effect_and_what_is_in_flight_stays(fork):
    """What `make deploy` does before it replaces the replicas."""
    ask = (TRY, fork.certificate, "api.example.com 443 hooks.example.com")
    assert "EOF" in python(fork, "web-a", *ask)[0]
    command = ["docker", "compose", "exec", "-T", "web-a", "python", "-uc", HOLD, fork.certificate]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=fork.directory, env=fork.environment, **pipes) as held:
        assert held.stdout.readline() == "pong\n"
        allow(fork, "web", *WEB, "hooks.example.com:443")
        fork.make("egress")
        program = "from slipway.commands import deploy; from slipway.commands.shared import egress; {}"
        fork.run(sys.executable, "-c", program.format("deploy.open_ways(egress.names())"))
        wait_until("the new list", lambda: python(fork, "web-a", *ask) == ["reached"])
        held.stdin.write("\n")
        held.stdin.close()
        assert held.stdout.read() == "pong\n"


def test_where_the_files_are_not_what_the_services_say_a_deploy_says_so_and_changes_nothing(fork):
    before = [each["Id"] for each in fork.containers()]
    allow(fork, "tick", "smtp.example.com:465")
    said = complaint(fork.make("deploy", check=False))
    assert said.startswith("make deploy: ")
    assert "docker/egress/tick-egress-smtp-example-com.cfg" in said
    assert said.endswith("not what the services' egress says, run make egress.")
    assert [each["Id"] for each in fork.containers()] == before


def test_a_service_that_is_removed_takes_its_way_out_along(fork):
    fork.commit("What web and tick may reach")
    fork.run(sys.executable, "-m", "slipway.commands", "service-remove", "name=tick", "yes=1")
    names = fork.compose("config", "--services").stdout.split()
    assert [name for name in names if name.startswith("tick")] == []
    assert "tick" not in fork.read("compose/egress.yaml")
    assert [path.name for path in (fork.directory / "docker/egress").glob("tick*")] == []
