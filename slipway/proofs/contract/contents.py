"""What is in an image: its files as a container sees them, and the secrets in any of its layers."""

import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import PurePosixPath

MAX_BYTES = 1_000_000  # bytes; a larger file is not a key, and reading all of them takes long

ZSTD = b"\x28\xb5\x2f\xfd"

# What a secret looks like: its name, a literal that is quick to search for, and the whole pattern.
SECRETS = (
    (
        "a private key",
        b"PRIVATE KEY-----",
        rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+(?:[\w-]+: .*\s+)*[A-Za-z0-9+/]{40}",
    ),
    ("an AWS access key", b"AKIA", rb"\bAKIA(?![0-9A-Z]{9}EXAMPLE)[0-9A-Z]{16}\b"),
    ("a GitHub token", b"gh", rb"\bgh[pousr]_[A-Za-z0-9]{36}\b"),
    ("a GitHub token", b"github_pat_", rb"\bgithub_pat_\w{50,}\b"),
    ("a GitLab token", b"glpat-", rb"\bglpat-[\w-]{20,}"),
    ("a Slack token", b"xox", rb"\bxox[abeprs]-[0-9A-Za-z-]{20,}"),
    ("a Stripe key", b"_live_", rb"\b[rs]k_live_[0-9A-Za-z]{20,}"),
    ("a PyPI token", b"pypi-AgE", rb"\bpypi-AgE[\w-]{50,}"),
    ("a Google API key", b"AIza", rb"\bAIza[0-9A-Za-z_-]{35}\b"),
)
PATTERNS = [(name, literal, re.compile(pattern)) for name, literal, pattern in SECRETS]

# Files that are made to hold secrets, by the end of their path, and the pattern of a secret in them.
SECRET_FILES = {
    ".env": rb"\S",
    ".netrc": rb"password",
    ".pypirc": rb"password",
    ".pgpass": rb"\S",
    ".git-credentials": rb"\S",
    ".npmrc": rb"_authToken|_password",
    ".aws/credentials": rb"aws_secret_access_key",
    ".docker/config.json": rb'"auth"\s*:\s*"\S',
    "pip.conf": rb"://[^/\s:@]*:[^/\s@]+@",
    "id_rsa": rb"\S",
    "id_dsa": rb"\S",
    "id_ecdsa": rb"\S",
    "id_ed25519": rb"\S",
    "etc/shadow": rb"(?m)^[^:\n]+:\$",  # a password, however well hashed
}
# What was found in a layer, by its digest: images of one Dockerfile share most of theirs, which are read once.
LAYERS: dict[str, dict[str, str]] = {}
READING = threading.Lock()
EXAMPLES = (".example", ".sample", ".template", ".dist")

# NAME=value and https://user:password@host, as written in ENV, ARG and RUN.
ASSIGNMENT = re.compile(
    r"\b([A-Z0-9_]*(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS)[A-Z0-9_]*)=(['\"]?)([^\s'\";]+)",
    re.IGNORECASE,
)
LOGIN = re.compile(r"\b([a-z][a-z0-9+.-]*)://[^/\s:@$]*:([^/\s:@]+)@")
# A variable, a path to a file, a number, or a dummy for a build that needs some value.
HARMLESS = re.compile(r"[$/<{].*|[\d.]+|(dummy|placeholder|unused|none|null|true|false|yes|no)\b.*", re.IGNORECASE)

# Published with a package for its own tests, so not a secret.
LIBRARY = re.compile(r"(^|/)(site-packages|dist-packages|node_modules|lib/python3[.\d]*)/")


@dataclass(frozen=True)
class File:
    path: str  # with no slash in front
    mode: int
    uid: int
    gid: int
    kind: bytes  # tarfile's type

    @property
    def regular(self) -> bool:
        return self.kind in tarfile.REGULAR_TYPES

    @property
    def directory(self) -> bool:
        return self.kind == tarfile.DIRTYPE

    @property
    def link(self) -> bool:
        return self.kind == tarfile.SYMTYPE

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name


def files(container: str) -> tuple[list[File], str]:
    """All files of a (stopped) container's file system, and the text of its /etc/passwd."""
    found, passwd = [], ""
    with stream("export", container) as archive:
        for member in archive:
            found.append(File(clean(member.name), member.mode, member.uid, member.gid, member.type))
            if found[-1].path == "etc/passwd" and member.isreg():
                passwd = archive.extractfile(member).read().decode(errors="replace")
    return found, passwd


def clean(path: str) -> str:
    return path.removeprefix("./").strip("/")


def secrets_in_layers(image: str) -> dict[str, str]:
    """Paths and the secrets in them, in any layer, including files that a later layer deletes."""
    found: dict[str, str] = {}
    with READING, stream("save", image) as archive:
        for member in archive:
            # Manifests are JSON, and smaller files than an empty tar are neither.
            if member.isreg() and member.size >= tarfile.BLOCKSIZE * 2:
                blob = archive.extractfile(member)
                if member.name not in LAYERS and blob.peek(1)[:1] not in (b"{", b"["):
                    LAYERS[member.name] = secrets_in_layer(blob)
                found |= LAYERS.get(member.name, {})
    return found


def secrets_in_layer(blob: BufferedReader) -> dict[str, str]:
    if blob.peek(4).startswith(ZSTD) and sys.version_info < (3, 14):
        raise ValueError("a layer is compressed with zstd, which takes Python 3.14 to read")
    found = {}
    with tarfile.open(fileobj=blob, mode="r|*") as layer:
        for member in layer:
            path = clean(member.name)
            if f"/{path}".endswith("/.git/HEAD"):
                found[path.removesuffix("/HEAD")] = "a repository's whole history"
            small = member.isreg() and member.size <= MAX_BYTES
            if small and (what := secret_in_file(path, layer.extractfile(member).read())):
                found[path] = what
    return found


def secret_in_file(path: str, content: bytes) -> str | None:
    library = LIBRARY.search(path)
    pattern = next((what for end, what in SECRET_FILES.items() if f"/{path}".endswith(f"/{end}")), None)
    if PurePosixPath(path).name.startswith(".env.") and not path.endswith(EXAMPLES):
        pattern = SECRET_FILES[".env"]
    if pattern and not library and re.search(pattern, content):
        return "a password's hash" if path == "etc/shadow" else "a file made to hold secrets"
    what = secret_in(content)
    return None if library and what == "a private key" else what


def secret_in(content: bytes) -> str | None:
    """What kind of secret the content holds; None if it holds none that we know."""
    if content.startswith(b"\x7fELF"):
        return None
    for what, literal, pattern in PATTERNS:
        if literal in content and pattern.search(content):
            return what
    return None


def secrets_in_text(text: str) -> Iterator[str]:
    """Names of the secrets in a command or in the environment, never their values."""
    for name, _, value in ASSIGNMENT.findall(text):
        if not name.upper().endswith(("_FILE", "_PATH", "_DIR")) and not HARMLESS.fullmatch(value):
            yield name
    for scheme, password in LOGIN.findall(text):
        if not HARMLESS.fullmatch(password):
            yield f"the password in a {scheme}:// address"
    if what := secret_in(text.encode()):
        yield what


@contextmanager
def stream(*command: str) -> Iterator[tarfile.TarFile]:
    """The archive that a docker command writes, read as a stream: images are large."""
    with subprocess.Popen(["docker", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
        try:
            with tarfile.open(fileobj=run.stdout, mode="r|") as archive:
                yield archive
        finally:
            run.kill()
