"""Typed settings from the environment, `.env` and secret files (https://12factor.net/config).

A service subclasses `Settings` and adds its own, one line each:

    @dataclass(frozen=True, kw_only=True)
    class Settings(chassis.settings.Settings):
        orders_per_page: int = setting(20, "Orders on one page.", minimum=1)

The variable's name is the field's, in capitals. A field made with `secret=True` may also come from
the file that `<NAME>_FILE` names. `load()` reports every error at once and never echoes a secret.
"""

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from dotenv import dotenv_values, find_dotenv

from chassis.settings.address import Address

T = TypeVar("T")

# Nothing from elsewhere, nothing inline (developer.mozilla.org/en-US/docs/Web/HTTP/Guides/CSP).
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
PLACEHOLDERS = ("change-me", "changeme", "dev-only", "example", "password", "secret")
PREFIX = re.compile(r"(/[\w-]+)+").fullmatch
CONTACT = re.compile(r"(mailto:|https://|tel:)\S+").fullmatch
ENDPOINT = re.compile(r"https?://[^/\s]+\S*").fullmatch
DSN = re.compile(r"https?://[^:@/\s]+@[^@/\s]+/(\S+/)?\d+").fullmatch
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class SettingsError(Exception):
    """The environment is not usable; `errors` holds one sentence each."""

    def __init__(self, errors: list[str]) -> None:
        self.errors = errors
        count = "1 setting is" if len(errors) == 1 else f"{len(errors)} settings are"
        super().__init__(f"{count} wrong: {' '.join(errors)}")


def setting(
    default: T,
    help: str,
    *,
    secret: bool = False,
    minimum: float | None = None,
    maximum: float | None = None,
) -> T:
    """A field of `Settings`: its default, its one-line meaning, and the bounds of a number."""
    metadata = {"help": help, "secret": secret, "minimum": minimum, "maximum": maximum}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that every service has. Times are in seconds."""

    uses_database: ClassVar[bool] = True  # a service without one sets False, and needs no address
    uses_secret_key: ClassVar[bool] = True  # a service that signs nothing sets False

    app_env: Literal["production", "development", "test"] = setting(
        "production", "Development shows tracebacks; production refuses placeholder secrets."
    )
    secret_key: str = setting("", "Signs sessions and form tokens; at least 32 characters.", secret=True)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting("INFO", "The lowest level that is logged.")
    log_format: Literal["json", "text"] = setting("json", "One JSON object per line, or text for people.")
    trusted_proxies: int = setting(0, "Proxies in front whose X-Forwarded-* headers are trusted.", minimum=0, maximum=9)

    trusted_origins: str = setting(
        "", "Other sites whose pages may send changes, comma-separated, such as https://app.example.org."
    )

    content_security_policy: str = setting(
        CONTENT_SECURITY_POLICY, "Where pages may load scripts, styles and everything else from, and send to."
    )

    robots: Literal["own", "allow", "disallow"] = setting(
        "own", "What /robots.txt says to crawlers; disallow keeps pages out of search, own leaves it to the app."
    )
    security_contact: str = setting(
        "", "Who learns of security holes, by /.well-known/security.txt; mailto:, https: or tel:, comma-separated."
    )

    status_token: str = setting(
        "", "Gives access to /status in production; at least 32 characters. Without it, no one has access.", secret=True
    )
    status_peers: str = setting(
        "", "The service's replicas, as comma-separated host:port, for /status and health; compose sets them."
    )

    bind_address: str = setting("0.0.0.0", "The address on which the server listens.")  # noqa: S104 - a container's own
    port: int = setting(8000, "The port on which the server listens.", minimum=1, maximum=65535)
    url_prefix: str = setting("", "The prefix of the service's addresses, such as /billing.")
    vite_url: str = setting("", "Vite's development server, such as http://localhost:5173, for a UI bundle.")
    web_concurrency: int = setting(0, "Worker processes; 0: one per CPU and 96 MB, up to four.", minimum=0, maximum=64)
    web_threads: int = setting(8, "Threads per worker, and the worker's database connections.", minimum=1, maximum=256)
    drain_delay: float = setting(
        4.0, "Seconds that it accepts requests after SIGTERM, unless the proxy knows earlier.", minimum=0, maximum=300
    )
    graceful_timeout: int = setting(20, "Seconds after the drain for requests in flight.", minimum=1, maximum=600)
    request_timeout: float = setting(
        60.0,
        "Seconds after which a request counts as hung and its worker is replaced; waits for its client do not count.",
        minimum=1,
        maximum=3600,
    )

    database_url: str = setting(
        "",
        "postgresql://user:password@host:5432/name, or several hosts; what it lacks, the next five say.",
        secret=True,
    )
    database_host: str = setting("", "The host of the database.")
    database_port: int = setting(5432, "The port of the database.", minimum=1, maximum=65535)
    database_name: str = setting("", "The name of the database; by default the service's name.")
    database_user: str = setting("", "The role that the service connects as; by default the service's name.")
    database_password: str = setting("", "The password of that role.", secret=True)
    database_wait: float = setting(30.0, "Seconds that the entrypoint waits for Postgres.", minimum=0, maximum=3600)
    database_wait_commands: str = setting(
        "gunicorn,chassis.server.uwsgi,flask,chassis.db.migrations,chassis.process.release",
        "The commands before which the entrypoint waits; others start at once.",
    )
    database_connect_timeout: int = setting(3, "Seconds to open a connection.", minimum=1, maximum=60)
    database_statement_timeout: float = setting(
        10.0, "Seconds after which a statement is cancelled.", minimum=0.1, maximum=600
    )
    database_pool_timeout: float = setting(
        3.0, "Seconds that a request waits for a connection.", minimum=0.1, maximum=60
    )

    otel_exporter_otlp_endpoint: str = setting(
        "", "Where traces go, such as http://collector:4318; empty: nowhere, and they cost nothing."
    )
    otel_exporter_otlp_headers: str = setting(
        "", "What is sent there along, such as authorization=Basic%20c2VjcmV0, comma-separated.", secret=True
    )

    sentry_dsn: str = setting(
        "", "Where exceptions go, such as https://KEY@sentry.example.com/1; empty: only into the log.", secret=True
    )

    def __post_init__(self) -> None:
        """A hook for a service's own rules: raise SettingsError with the errors."""

    @property
    def production(self) -> bool:
        return self.app_env == "production"

    @property
    def development(self) -> bool:
        return self.app_env == "development"

    @property
    def traced(self) -> bool:
        disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"  # OpenTelemetry's own switch
        return bool(self.otel_exporter_otlp_endpoint) and not disabled

    @property
    def security_contacts(self) -> list[str]:
        return _separated(self.security_contact)

    @cached_property
    def database(self) -> Address:
        """The database's address, from DATABASE_URL and, for what that lacks, from the parts."""
        service = os.environ.get("SERVICE", "")
        name, user, password = self.database_name or service, self.database_user or service, self.database_password
        if not self.database_url:
            return Address(self.database_host, self.database_port, name, user, password)
        url = Address.from_url(self.database_url)
        return replace(url, name=url.name or name, user=url.user or user, password=url.password or password)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Reads the environment (then `.env`, for what it leaves out), or just the mapping given.

        Raises SettingsError with every error found. An empty value counts as not set.
        """
        if environ is None:
            environ = {**read_dotenv(), **os.environ}
        errors: list[str] = []
        types = get_type_hints(cls)
        values = {}
        for each in fields(cls):
            try:
                text = _read(each, environ)
                if text is not None:
                    values[each.name] = _parse(each, types[each.name], text)
            except ValueError as error:
                errors.append(f"{each.name.upper()} {error}")
        wrong = {error.split(" ", 1)[0] for error in errors}
        errors += [error for error in cls._cross_check(values, environ) if error.split(" ", 1)[0] not in wrong]
        if errors:
            raise SettingsError(errors)
        return cls(**values)

    @classmethod
    def _cross_check(cls, values: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
        """Errors that involve more than one setting."""
        errors, placeholders = [], {}
        production = values.get("app_env", "production") == "production"
        if cls.uses_secret_key:
            placeholders["SECRET_KEY"] = values.get("secret_key", "")
            errors += _check_key(placeholders["SECRET_KEY"], production)
        if token := values.get("status_token", ""):
            placeholders["STATUS_TOKEN"] = token
            if production and len(token) < 32:
                errors.append("STATUS_TOKEN is shorter than 32 characters. `make init` writes a good one.")
        if cls.uses_database:
            placeholders["DATABASE_PASSWORD"], wrong = _check_database(values, environ)
            errors += wrong
        if (prefix := values.get("url_prefix", "")) and not PREFIX(prefix):
            errors.append(f"URL_PREFIX must look like /billing, not {prefix!r}.")
        errors += [
            f"SECURITY_CONTACT must look like mailto:security@example.org, not {each!r}."
            for each in _separated(values.get("security_contact", ""))
            if not CONTACT(each)
        ]
        if (endpoint := values.get("otel_exporter_otlp_endpoint", "")) and not ENDPOINT(endpoint):
            errors.append(f"OTEL_EXPORTER_OTLP_ENDPOINT must look like http://collector:4318, not {endpoint!r}.")
        if (dsn := values.get("sentry_dsn", "")) and not DSN(dsn):
            errors.append("SENTRY_DSN must look like https://KEY@sentry.example.com/1.")
        if production:
            errors += [
                f"{name} is a placeholder, which production refuses. `make init` writes a good one."
                for name, value in placeholders.items()
                if value.lower().startswith(PLACEHOLDERS)
            ]
        return errors


def of_service() -> type[Settings]:
    """`Settings` of `<SERVICE>.settings`, with the service's own; without SERVICE, those of another repository's app.

    Such an app reads its own secrets, and has Postgres if an address and psycopg2 are there.
    """
    if service := os.environ.get("SERVICE"):
        found: type[Settings] = importlib.import_module(f"{service}.settings").Settings
        return found
    named = any(map(os.environ.get, ("DATABASE_HOST", "DATABASE_URL_FILE")))
    named = named or os.environ.get("DATABASE_URL", "").startswith("postgres")
    database = named and importlib.util.find_spec("psycopg2") is not None
    return type("Settings", (Settings,), {"uses_database": database, "uses_secret_key": False})


def read_dotenv() -> dict[str, str]:
    """The nearest `.env`, from the working directory upward; empty where there is none."""
    return {name: value or "" for name, value in dotenv_values(find_dotenv(usecwd=True)).items()}


def _read(each: Field[Any], environ: Mapping[str, str]) -> str | None:
    """The setting's text, from the variable or its `_FILE`; None where neither is set."""
    name = each.name.upper()
    text, path = environ.get(name) or None, environ.get(f"{name}_FILE") or None
    if path is None or not each.metadata["secret"]:
        return text
    if text is not None:
        raise ValueError(f"and {name}_FILE are both set: remove one of them.")
    try:
        text = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ValueError(f"cannot be read: {name}_FILE names {path}: {reason}.") from None
    if not text:
        raise ValueError(f"is empty: {name}_FILE names {path}, which holds nothing.")
    return text


def _parse(each: Field[Any], kind: Any, text: str) -> Any:
    """The text as the field's type, within its bounds; ValueError says what it must be."""
    shown = "" if each.metadata["secret"] else f", not {text!r}"
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(f"must be one of {', '.join(get_args(kind))}{shown}.")
        return text
    if kind is bool:
        if text.lower() not in TRUE + FALSE:
            raise ValueError(f"must be true or false{shown}.")
        return text.lower() in TRUE
    if kind in (int, float):
        return _number(each, kind, text, shown)
    return text


def _number(each: Field[Any], kind: type[int] | type[float], text: str, shown: str) -> float:
    noun = "a whole number" if kind is int else "a number"
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(f"must be {noun}{shown}.") from None
    low, high = each.metadata["minimum"], each.metadata["maximum"]
    above = low is None or value >= low  # False for NaN, which is in no range
    if not (above and (high is None or value <= high)):
        raise ValueError(f"must be {noun} from {low} to {high}{shown}.")
    return value


def _separated(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _check_key(key: str, production: bool) -> list[str]:
    if not key:
        return ["SECRET_KEY is not set. Run `make init`, or set SECRET_KEY_FILE."]
    if production and len(key.splitlines()[0]) < 32:
        return ["SECRET_KEY is shorter than 32 characters. `make init` writes a good one."]
    return []


def _check_database(values: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """The password that the service would use, and what is wrong with the database's address."""
    password, errors = values.get("database_password", ""), []
    if url := values.get("database_url", ""):
        try:
            address = Address.from_url(url)
        except ValueError as error:
            return password, [f"DATABASE_URL {error}."]
        if not (address.name or values.get("database_name") or os.environ.get("SERVICE")):
            errors.append("DATABASE_URL must name the database, as in postgresql://user:password@host:5432/name.")
        if address.password and environ.get("DATABASE_PASSWORD_FILE"):
            errors.append("DATABASE_URL has a password, and DATABASE_PASSWORD_FILE is set: remove one of them.")
        password = address.password or password
    elif not values.get("database_host"):
        errors.append("DATABASE_URL is not set, and neither is DATABASE_HOST: set one of them.")
    return password, errors
