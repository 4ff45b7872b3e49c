"""A service's way out: what `egress` in its pyproject.toml makes of compose and of HAProxy. Standard library only.

The name of each host leads the service to a container of its own, where HAProxy passes on what is allowed. TLS is not
terminated: several hosts at port 443 are told apart by the name in the client's handshake.
"""

from string import Template
from typing import NamedTuple

from slipway.commands import ROOT
from slipway.commands.shared import inventory
from slipway.commands.shared.compose import included
from slipway.commands.shared.inventory import Service

COMPOSE, FOLDER = "compose/egress.yaml", "docker/egress"
WRITTEN = "# Written by `make egress` from `egress` in the services' pyproject.toml."


class Way(NamedTuple):
    """One container: its name in compose, and what can be reached through it."""

    name: str
    hosts: tuple[str, ...]
    ports: tuple[int, ...]  # nothing but 443 if there are several hosts

    @property
    def config(self) -> str:
        return f"{FOLDER}/{self.name}.cfg"


def ways(service: Service) -> list[Way]:
    """Hosts with port 443 alone share a container. Any other host has one: no port but 443 tells hosts apart."""
    ports: dict[str, list[int]] = {}
    for entry in service.egress:
        host, _, port = entry.rpartition(":")
        ports.setdefault(host, []).append(int(port))
    shared = tuple(host for host, its in ports.items() if its == [443])
    return [
        *([Way(network(service), shared, (443,))] if shared else []),
        *(
            Way(f"{network(service)}-{host.replace('.', '-')}", (host,), tuple(its))
            for host, its in ports.items()
            if host not in shared
        ),
    ]


def names() -> list[str]:
    """The compose services of all containers."""
    return [way.name for service in inventory.all() for way in ways(service)]


def network(service: Service) -> str:
    return f"{service.name}-egress"


def users(service: Service) -> list[str]:
    """The compose services that have the way out: those that serve or work, and the job that migrates a database."""
    return [*(service.replicas or [service.name]), *([service.job] if service.job and service.database else [])]


def problem() -> str | None:
    """Which files differ from what `write` would write, in one line; None if none does."""
    if wrong := [path for path, text in documents().items() if on_disk(path) != text]:
        return f"{', '.join(wrong)}: not what the services' egress says, run make egress"
    return None


def write() -> None:
    for path, text in documents().items():
        if text is None:
            (ROOT / path).unlink(missing_ok=True)
        else:
            (ROOT / path).parent.mkdir(exist_ok=True)
            (ROOT / path).write_text(text)


def on_disk(path: str) -> str | None:
    return (ROOT / path).read_text() if (ROOT / path).exists() else None


def documents() -> dict[str, str | None]:
    """Each file's text, and None for a file that must not be there, as all of them without any egress."""
    services = [service for service in inventory.all() if service.egress]
    files: dict[str, str | None] = {COMPOSE: compose(services) if services else None}
    files |= {str(path.relative_to(ROOT)): None for path in sorted((ROOT / FOLDER).glob("*.cfg"))}
    files |= {way.config: haproxy(way) for service in services for way in ways(service)}
    text = on_disk("compose.yaml") or ""
    if services or COMPOSE in text:  # as the last file, since it changes what the others define
        last = [COMPOSE] if services else []
        files["compose.yaml"] = included(text, lambda names: [*(each for each in names if each != COMPOSE), *last])
    return files


def compose(services: list[Service]) -> str:
    containers = [container(way, network(service)) for service in services for way in ways(service)]
    networks = [f"  {network(service)}: {{ internal: true }}\n" for service in services]
    return "".join(
        [f"{WRITTEN}\nservices:\n", *containers, *map(access, services), "networks:\n  outside:\n", *networks]
    )


def container(way: Way, network: str) -> str:
    return f"""\
  {way.name}:
    extends: {{ file: ../slipway/compose/service.yaml, service: egress }}
    command: [haproxy, -f, /usr/local/etc/haproxy/{way.name}.cfg]
    networks: [outside, {network}]

"""


def access(service: Service) -> str:
    """What a service's containers get beside what its own file says.

    A link and no alias of the network: HAProxy would find that, too, and itself behind it. An external link, since it
    stays true when the container is replaced.
    """
    first, *others = users(service)
    lines = [
        f"  {first}: &{service.name}",
        *([] if service.serves or service.database else ["    network_mode: !reset null"]),
        f"    networks: [{network(service)}]",
        "    external_links:",
        *(f"      - {way.name}:{host}" for way in ways(service) for host in way.hosts),
        "    depends_on:",
        *(f"      {way.name}: {{ condition: service_healthy }}" for way in ways(service)),
        *(f"  {name}: *{service.name}" for name in others),
    ]
    return "\n".join(lines) + "\n\n"


def haproxy(way: Way) -> str:
    """The configuration of one container."""
    frontends = [
        (BY_NAME if port == 443 else BY_PORT).substitute(port=port, hosts=" ".join(way.hosts)) for port in way.ports
    ]
    return HAPROXY.substitute(written=WRITTEN, log=LOG, frontends="\n".join(frontends))


LOG = (
    '{"message": "egress", "from": "%ci", "port": %fp, "host": "%[var(txn.host),json(utf8s)]",'
    ' "address": "%[var(txn.address)]", "state": "%tsc", "ms": %Tt, "bytes": %B}'
)
HAPROXY = Template("""\
$written
global
    log stdout format raw local0
    maxconn 1000
    nbthread 1
    hard-stop-after 15m # of connections that began before a reload

defaults
    mode tcp
    log global
    log-format '$log'
    option dontlognull
    option clitcpka
    option srvtcpka
    retries 0 # the client knows whether to try again
    timeout connect 5s
    timeout client 1h
    timeout server 1h

resolvers upstream
    .if defined(EGRESS_DNS)
        nameserver given "$${EGRESS_DNS-127.0.0.11:53}"
    .else
        parse-resolv-conf
    .endif
    accepted_payload_size 8192

$frontends
backend outside
    tcp-request inspect-delay 5s
    tcp-request content do-resolve(txn.address,upstream,ipv4) var(txn.host)
    tcp-request content reject unless { var(txn.address) -m found }
    tcp-request content set-dst var(txn.address)
    server host 0.0.0.0:0 # the address that was set, and the port that was asked for

listen healthy
    bind 127.0.0.1:8404
    tcp-request connection reject
""")
BY_NAME = Template("""\
frontend port_$port
    bind :$port
    tcp-request inspect-delay 5s
    tcp-request content reject unless { req.ssl_hello_type 1 }
    tcp-request content set-var(txn.host) req.ssl_sni,lower
    tcp-request content reject unless { var(txn.host) -m str $hosts }
    default_backend outside
""")
BY_PORT = Template("""\
frontend port_$port
    bind :$port
    tcp-request content set-var(txn.host) str($hosts)
    default_backend outside
""")
