"""The address of a database."""

import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

PORT = 5432


@dataclass(frozen=True)
class Address:
    """Where a database is and who logs in: the parts of a `postgresql://` URL (libpq, 33.1.1.2)."""

    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False)
    options: tuple[tuple[str, str], ...] = ()
    others: tuple[tuple[str, int], ...] = ()  # further hosts, with their ports

    @classmethod
    def from_url(cls, url: str) -> Self:
        """A name, user or password that the URL lacks is empty. Raises ValueError if it is malformed, without echoing
        it."""
        scheme, separator, rest = url.partition("://")
        if not separator or scheme.partition("+")[0] not in ("postgres", "postgresql"):
            raise ValueError("must start with postgresql://")
        authority = re.split("[/?#]", rest, maxsplit=1)[0]
        login, _, places = authority.rpartition("@")
        user, _, password = map(unquote, login.partition(":"))
        try:
            hosts = [(each.hostname or "", each.port or PORT) for each in map(urlsplit, _each_as_url(places))]
            parts = urlsplit(f"//host{rest.removeprefix(authority)}")
        except ValueError:
            raise ValueError("has no usable host and port") from None
        if not all(host for host, _ in hosts):
            raise ValueError("must look like postgresql://user:password@host:5432/name")
        options = tuple(parse_qsl(parts.query, keep_blank_values=True))
        (host, port), *others = hosts
        return cls(host, port, unquote(parts.path.lstrip("/")), user, password, options, tuple(others))

    @property
    def hosts(self) -> tuple[tuple[str, int], ...]:
        return (self.host, self.port), *self.others

    @property
    def url(self) -> str:
        """The URL for libpq, without a driver in the scheme. It includes the password, so never log it."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        query = f"?{urlencode(self.options)}" if self.options else ""
        return f"postgresql://{login}@{self.places}/{quote(self.name, safe='')}{query}"

    @property
    def places(self) -> str:
        """Each host with its port, separated by commas."""
        return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)

    def __str__(self) -> str:
        return f"{self.user}@{self.places}/{self.name}"


def _each_as_url(places: str) -> list[str]:
    return [f"//{place}" for place in places.split(",")]
