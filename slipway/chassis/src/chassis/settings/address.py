"""The address of a database."""

from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit


@dataclass(frozen=True)
class Address:
    """Where a database is and who logs in: the parts of a `postgresql://` URL (libpq, 33.1.1.2)."""

    host: str
    port: int
    name: str
    user: str
    password: str = field(repr=False)
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Raises ValueError if the URL is malformed, without echoing it."""
        scheme, separator, _ = url.partition("://")
        if not separator or scheme.partition("+")[0] not in ("postgres", "postgresql"):
            raise ValueError("must start with postgresql://")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 5432
        except ValueError:
            raise ValueError("has no usable host and port") from None
        name = unquote(parts.path.lstrip("/"))
        if not host or not name:
            raise ValueError("must look like postgresql://user:password@host:5432/name")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        return cls(host, port, name, user, password, tuple(parse_qsl(parts.query)))

    @property
    def url(self) -> str:
        """The URL for libpq, without a driver in the scheme. It includes the password, so never log it."""
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = f"?{urlencode(self.options)}" if self.options else ""
        return f"postgresql://{login}@{host}:{self.port}/{quote(self.name, safe='')}{query}"

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}/{self.name}"
