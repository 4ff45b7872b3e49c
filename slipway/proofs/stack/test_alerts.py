"""Prometheus and Alertmanager beside production: real faults raise alerts, which leave by the way out, and end."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from slipway.proofs.faults.injection import Load
from slipway.proofs.forks.fork import Fork
from slipway.proofs.harness import ROOT, ports, wait_until, with_probe
from slipway.proofs.stack.test_egress import CERTIFICATE
from slipway.proofs.stack.test_hardening import deviations

pytestmark = pytest.mark.containers

PROMETHEUS = re.findall(r"\}(prom/prometheus:\S+)", (ROOT / "compose/observe.yaml").read_text())[0]
OBSERVERS = {"alertmanager", "blackbox-exporter", "node-exporter", "postgres-exporter", "prometheus"}
# A webhook and a mail server; it prints each alert, and each mail's subject.
RECEIVER = """\
import http.server, json, os, socketserver, ssl, threading

def tell(**what):
    os.write(1, json.dumps(what).encode() + b"\\n")  # threads' lines don't mix

class Webhook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        for alert in json.loads(self.rfile.read(int(self.headers["content-length"])))["alerts"]:
            tell(alert=alert["labels"] | {"status": alert["status"]} | alert["annotations"])
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass

class Mail(socketserver.StreamRequestHandler):
    def handle(self):
        say = lambda text: self.wfile.write(text + b"\\r\\n")
        say(b"220 mail.example.com")
        for line in self.rfile:
            if line.upper().startswith(b"EHLO"):
                say(b"250-mail.example.com\\r\\n250 AUTH PLAIN")
            elif line.upper().startswith(b"AUTH"):
                say(b"235 welcome")
            elif line.upper().startswith(b"DATA"):
                say(b"354 go on")
                subject, end = "", b""
                for line in self.rfile:
                    subject = line.decode() if line.lower().startswith(b"subject:") else subject
                    if line == b".\\r\\n":
                        break
                tell(mail=subject.strip())
                say(b"250 taken")
            elif line.upper().startswith(b"QUIT"):
                say(b"221 bye")
                break
            else:
                say(b"250 fine")

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/receiver/cert.pem", "/receiver/key.pem")
for port, handler in ((443, Webhook), (465, Mail)):
    server = socketserver.ThreadingTCPServer(("", port), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever).start()
tell()
"""
# A worker whose round hangs for as long as a file is there.
HANGS = """
def work(number: int) -> None:
    while Path("/tmp/hang").exists():
        time.sleep(0.1)
"""


class Watched(Fork):
    """Production with the profiles `observe` and `backup`, a worker, and what receives alerts."""

    def told(self) -> list[dict]:
        lines = self.run("docker", "logs", f"{self.project}-receiver-1").stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def state(self, alert: str) -> dict:
        """What was last told of it."""
        return ([each["alert"] for each in self.told() if each.get("alert", {}).get("alertname") == alert] or [{}])[-1]

    def wait_for(self, status: str, *alerts: str) -> None:
        for alert in alerts:
            wait_until(f"{alert} {status}", lambda alert=alert: self.state(alert).get("status") == status, 60)

    def ask(self, query: str) -> str:
        words = ["exec", "-T", "prometheus", "promtool", "query", "instant", "http://metrics:9090", query]
        return self.compose(*words).stdout

    def load(self, path: str) -> Load:
        address = f"https://localhost:{self.environment['HTTPS_PORT']}{path}"
        return Load(address, certificate=self.authority(), threads=16, pause=0.05)


def shorten(stack: Watched) -> None:
    """The same rules, with seconds for minutes."""
    for name, pairs in {
        "prometheus.yml": [("15s", "1s"), ("5s", "1s")],
        "rules.yml": [(r"for: \w+", "for: 2s"), (r"\[5m\]", "[10s]")],
        "alertmanager.yml": [("30s", "0s"), ("5m", "1s")],
    }.items():
        path = stack.directory / "docker/observe" / name
        text = path.read_text()
        for former, new in pairs:
            text = re.sub(former, new, text)
        path.write_text(text)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    receiver = tmp_path_factory.mktemp("receiver")
    subprocess.run(CERTIFICATE.split(), cwd=receiver, check=True, capture_output=True)
    receiver.chmod(0o755)
    (receiver / "key.pem").chmod(0o644)
    (receiver / "receiver.py").write_text(RECEIVER)
    stack = Watched(
        tmp_path_factory.mktemp("watched"),
        COMPOSE_FILE=f"compose.yaml:{ROOT}/slipway/proofs/stack/alerts.yaml",
        COMPOSE_PROFILES="backup,observe",
        RECEIVER=receiver,
        BACKUP_INTERVAL=5,
        ALERT_WEBHOOK_HOST="hooks.example.com",
        ALERT_MAIL="ops@shop.example",
        ALERT_SMTP_HOST="mail.example.com",
        ALERT_SMTP_PORT=465,
        ALERT_SMTP_USER="ops",
        **ports(),
    )
    try:
        stack.run(sys.executable, "-m", "slipway.commands", "service", "name=tick", "kind=worker")
        main = (
            stack.read("services/tick/src/tick/main.py")
            .split("\ndef work(")[0]
            .replace("tick_interval", "tick_interval, round=2")
        )
        stack.write("services/tick/src/tick/main.py", f"import time\nfrom pathlib import Path\n{main}{HANGS}")
        with_probe(stack.directory)
        shorten(stack)
        stack.make("init")
        stack.write("secrets/alert_webhook_url", "https://hooks.example.com/alerts/token\n")
        stack.write("secrets/alert_smtp_secret", "a password\n")
        with (stack.directory / ".env").open("a") as settings:
            settings.write("TICK_INTERVAL=1\n")
        stack.compose("up", "--build", "--detach", "--wait")
        yield stack
    finally:
        stack.destroy()


def test_without_the_profile_there_is_none_of_it_and_with_it_each_part(watched):
    configured = [
        set(
            watched.compose(
                "config", "--services", env=watched.environment | {"COMPOSE_PROFILES": profiles}
            ).stdout.split()
        )
        for profiles in ("", "observe")
    ]
    assert configured[1] - configured[0] == {*OBSERVERS, "alerts-egress"}


def test_nothing_of_it_is_published_or_may_more_than_the_others(watched):
    found = {each for each in deviations(watched) if each[0] in {*OBSERVERS, "alerts-egress"}}
    assert found == {("alerts-egress", "internal networks only", "alerting")}


def test_every_replica_and_worker_the_proxy_postgres_the_machine_and_the_site_are_asked(watched):
    wait_until("all targets", lambda: watched.ask("up == 0 or probe_success == 0").strip() == "")
    up = watched.ask("up")
    for name in ("web-a:8000", "web-b:8000", "tick:8000", "proxy:2020", "postgres-metrics:9187", "node-exporter:9100"):
        assert f'instance="{name}"' in up
    for query in (
        'http_requests_total{service="web"}',
        "worker_due_timestamp_seconds",
        "caddy_http_requests_total",
        'pg_database_size_bytes{datname="web"}',
        'node_filesystem_avail_bytes{mountpoint="/"}',
        "node_memory_MemAvailable_bytes",
        'backup_newest_timestamp_seconds{database="web"}',
        'probe_ssl_earliest_cert_expiry{instance="localhost"}',
    ):
        assert watched.ask(query), query


def test_no_service_reads_what_prometheus_knows_and_no_observer_reaches_outside(watched):
    reach = "import socket; socket.create_connection(('{}', 9090), 2); print('reached')"
    for name in ("prometheus", "alertmanager"):
        run = watched.compose("exec", "-T", "web-a", "python", "-c", reach.format(name), check=False)
        assert "reached" not in run.stdout
    for name in ("prometheus", "alertmanager", "blackbox-exporter"):
        get = ["wget", "-q", "-T", "2", "-O", "-", "http://192.0.2.1/"]
        assert watched.compose("exec", "-T", name, *get, check=False).returncode
    with watched.client() as client:
        assert client.get("/metrics").status_code == 404


def test_the_role_of_the_exporter_reads_no_rows(watched):
    assert watched.sql_as_app("SELECT count(*) FROM pg_stat_activity", "monitor", "postgres").returncode == 0
    assert "permission denied" in watched.sql_as_app("SELECT * FROM probe", "monitor", "web").stderr


def test_real_faults_raise_their_alerts_at_the_webhook_and_by_mail_and_clear_them(watched):
    wait_until("all targets", lambda: watched.ask("up == 0 or probe_success == 0").strip() == "")
    # A replica is killed, a worker hangs, backups stop, and a table is gone.
    watched.compose("kill", "web-b")
    watched.compose("exec", "-T", "tick", "touch", "/tmp/hang")
    watched.compose("pause", "backup")
    watched.sql("ALTER TABLE probe RENAME TO gone")
    with watched.load("/probe/rows"):
        watched.wait_for("firing", "ReplicaDown", "WorkerLate", "BackupOld", "Errors")
    assert watched.state("ReplicaDown")["summary"] == "web-b:8000 does not answer"
    assert "ReplicaDown" in watched.make("alerts").stdout
    watched.sql("ALTER TABLE gone RENAME TO probe")
    watched.compose("unpause", "backup")
    watched.compose("exec", "-T", "tick", "rm", "/tmp/hang")
    watched.compose("up", "--detach", "--no-deps", "--wait", "web-b")
    watched.wait_for("resolved", "ReplicaDown", "WorkerLate", "BackupOld", "Errors")

    # A deploy ends halfway, and its release keeps connections from others.
    wait_until("connections", lambda: watched.state("PoolExhausted").get("status") != "firing")
    two = watched.environment | {"VERSION": "two"}
    watched.compose("build", "web-a", env=two)
    watched.compose("up", "--detach", "--no-deps", "--no-build", "--wait", "web-a", env=two)
    with watched.load("/probe/hold"):
        watched.wait_for("firing", "DeployUnfinished", "PoolExhausted")
    watched.compose("up", "--detach", "--no-deps", "--no-build", "--wait", "web-b", env=two)
    watched.wait_for("resolved", "DeployUnfinished", "PoolExhausted")

    mails = " ".join(each.get("mail", "") for each in watched.told())
    for alert in ("ReplicaDown", "WorkerLate", "BackupOld", "Errors", "DeployUnfinished", "PoolExhausted"):
        assert f"[FIRING:1] {alert}" in mails
        assert f"[RESOLVED] {alert}" in mails


def test_without_a_receiver_alerts_are_shown_and_none_is_sent(watched):
    without = watched.environment | {"ALERT_WEBHOOK_HOST": "", "ALERT_MAIL": ""}
    url = watched.read("secrets/alert_webhook_url")
    watched.write("secrets/alert_webhook_url", "")
    try:
        watched.compose("up", "--detach", "--no-deps", "--wait", "alertmanager", "alerts-egress", env=without)
        before = len(watched.told())
        watched.compose("kill", "tick")
        wait_until("the alert", lambda: "tick:8000 does not answer" in watched.make("alerts").stdout)
        assert len(watched.told()) == before
    finally:
        watched.write("secrets/alert_webhook_url", url)
        watched.compose("up", "--detach", "--no-deps", "alertmanager", "alerts-egress", "tick")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ALERT_WEBHOOK_HOST": "other.example"}, "secrets/alert_webhook_url must begin with https://other.example/"),
        ({"ALERT_WEBHOOK_HOST": ""}, "ALERT_WEBHOOK_HOST, which lets it out, is not set"),
        ({"ALERT_MAIL": "ops"}, "ALERT_MAIL can't be 'ops'"),
        ({"ALERT_SMTP_HOST": ""}, "ALERT_SMTP_HOST can't be ''"),
        ({"ALERT_SMTP_PORT": "smtp"}, "ALERT_SMTP_PORT can't be 'smtp'"),
    ],
)
def test_a_wrong_setting_of_alerts_is_one_line(watched, settings, said):
    given = [f"--env={name}={value}" for name, value in settings.items()]
    start = ["exec", "-T", *given, "alertmanager", "/opt/slipway/observe/alertmanager.sh"]
    run = watched.compose(*start, check=False)
    assert run.returncode
    (line,) = run.stderr.strip().splitlines()  # Alertmanager has not begun
    assert said in line


def test_nginx_tells_its_connections(watched):
    nginx = watched.environment | {"PROXY": "nginx"}
    watched.compose("up", "--build", "--detach", "--no-deps", "--wait", "certificates", "proxy", env=nginx)
    wait_until("its figures", lambda: 'nginx_connections{instance="proxy:2020"' in watched.ask("nginx_connections"))
    wait_until("the site", lambda: watched.ask("probe_success == 1"))


def promtool(rules: str, tmp_path) -> subprocess.CompletedProcess:
    """The tests of docker/observe/rules.test.yml with these rules."""
    (tmp_path / "rules.yml").write_text(rules)
    (tmp_path / "rules.test.yml").write_text((ROOT / "docker/observe/rules.test.yml").read_text())
    tmp_path.chmod(0o755)
    mount = f"{tmp_path}:/rules:ro"
    run = ["docker", "run", "--rm", "--network=none", f"--volume={mount}", "--entrypoint=promtool", PROMETHEUS]
    return subprocess.run([*run, "test", "rules", "/rules/rules.test.yml"], capture_output=True, text=True, check=False)


def test_each_rule_fires_when_it_should_and_else_not(tmp_path):
    run = promtool((ROOT / "docker/observe/rules.yml").read_text(), tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("former", "new"),
    [
        ('job="services"} == 0', 'job="services"} == 2'),
        ("> 0.01", "> 0.05"),
        (">= 100", ">= 1"),
        ("for: 15m", "for: 1m"),
    ],
)
def test_a_rule_that_has_another_threshold_is_found(tmp_path, former, new):
    rules = (ROOT / "docker/observe/rules.yml").read_text()
    assert former in rules
    assert promtool(rules.replace(former, new), tmp_path).returncode != 0
