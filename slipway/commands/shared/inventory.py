"""The services of this repository, as each describes itself: `[tool.slipway]` in its pyproject.toml.

Standard library only: make's tools read it before anything is installed, and so do the container tests.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from slipway.commands import ROOT
from slipway.commands.shared import dotenv
from slipway.commands.shared.stop import Stop

KINDS = ("web", "asgi", "worker", "script", "static")
FLASK = ("web", "static")  # the kinds whose framework it is
FRAMEWORKS = ("sanic", "fastapi")  # of the kind asgi; the first is the default
HOST = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
FIRST_PORT = 8000  # in development, for the first service; the others follow


@dataclass(frozen=True)
class Service:
    """A folder of services/: its name is the package's, the compose service's and the database's."""

    name: str
    kind: str = "web"
    framework: str = ""  # one of FRAMEWORKS, for the kind asgi
    path: str = "/"  # the path that the proxy routes to it
    host: str = ""  # its own, if it has one
    database: bool = True
    port: int = FIRST_PORT  # in development
    migrate: str = ""  # the job that runs before it; <name>-migrate unless named here
    template: str = ""  # what `make service` created it from
    egress: tuple[str, ...] = ()  # what it may reach outside: host:port

    @property
    def directory(self) -> Path:
        return ROOT / "services" / self.name

    @property
    def serves(self) -> bool:
        """Whether it answers HTTP, as a pair of replicas behind the proxy."""
        return self.kind in ("web", "asgi", "static")

    @property
    def replicas(self) -> tuple[str, ...]:
        """The compose services that run all the time in production."""
        if self.serves:
            return f"{self.name}-a", f"{self.name}-b"
        return () if self.kind == "script" else (self.name,)

    @property
    def job(self) -> str | None:
        """The job that runs before it in production: migrations, and static files for the proxy."""
        return self.migrate or f"{self.name}-migrate" if self.database or self.serves else None

    @property
    def prefix(self) -> str:
        """The beginning of its addresses: the path without its last slash."""
        return self.path.rstrip("/")

    @property
    def port_setting(self) -> str:
        return "DEV_PORT" if self.port == FIRST_PORT else f"DEV_PORT_{self.name.upper()}"

    @property
    def dev_port(self) -> int:
        """Its own setting, else DEV_PORT plus the distance of its port from the first service's. Raises Stop."""
        first = port(dotenv.get("DEV_PORT", str(FIRST_PORT)), "DEV_PORT")
        text = dotenv.get(self.port_setting, str(first + self.port - FIRST_PORT))
        return port(text, self.port_setting)

    @property
    def dev_url(self) -> str:
        return f"http://localhost:{self.dev_port}{self.prefix}"


def all() -> list[Service]:
    """Every service, sorted by name."""
    return [read(path) for path in sorted((ROOT / "services").glob("*/pyproject.toml"))]


def find(name: str = "") -> Service:
    """The service of that name; without a name, the only service, or the one that has the site's first page.

    Raises Stop, which names the known ones.
    """
    known = {service.name: service for service in all()}
    if name in known:
        return known[name]
    first = [each for each in known.values() if each.serves and each.path == "/" and not each.host]
    if not name and len(found := first or list(known.values())) == 1:
        return found[0]
    wrong = f"there is no service {name}" if name else "there are several services"
    raise Stop(f"{wrong}: s= takes {', '.join(known) or 'one of services/'}")


def read(pyproject: Path) -> Service:
    """Raises TypeError if `[tool.slipway]` has a key that no service has, and Stop for an egress that can't be."""
    name, given = pyproject.parent.name, tomllib.loads(pyproject.read_text())["tool"]["slipway"]
    return Service(name, **given | {"egress": outside(given.get("egress", []), f"egress of the service {name}")})


def outside(entries: object, what: str) -> tuple[str, ...]:
    """The entries, each the name of a host with a port."""
    if not isinstance(entries, list) or {type(each) for each in entries} - {str}:
        raise Stop(f'{what} must be a list, such as ["api.example.com:443"], not {entries!r}')
    found: list[str] = []
    for each in entries:
        host, _, number = each.rpartition(":")
        # An address needs no lookup, which is what leads to the proxy; a name without a dot could be a container's.
        if not HOST.fullmatch(host) or host.rpartition(".")[2].isdigit():
            raise Stop(f"{what} must name a host with its port, such as api.example.com:443, not {each!r}")
        found.append(f"{host}:{port(number, f'{what}: the port of {host}')}")
        if found.count(found[-1]) > 1:
            raise Stop(f"{what} names {found[-1]} twice")
    hosts = {each.rpartition(":")[0] for each in found}
    if len({host.replace(".", "-") for host in hosts}) < len(hosts):  # as their containers are named
        raise Stop(f"{what} names hosts that differ in no more than a dot and a hyphen")
    return tuple(found)


def port(text: str, setting: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise Stop(f"{setting} must be a port from 1 to 65535, not {text!r}")
    return int(text)
