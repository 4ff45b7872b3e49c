"""Installs uv at the given path if it is not on the PATH: any python3 can run this, whatever came with it.

The version is the one that builds the images. pip is tried first, since it knows how this machine reaches an index.
Debian's python3 has no pip without further packages: the standard library then reads the index
(packaging.python.org, the simple API) and fetches the wheel for this system.
"""

import hashlib
import html
import io
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from base64 import b64encode
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.request import Request, urlopen

from slipway.commands import ROOT

VERSION: str = re.findall(r"uv==([\d.]+)", (ROOT / "docker/service.Dockerfile").read_text())[0]
CHOSEN = re.sub(r"^[\w.-]+=", "", os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL", ""))
INDEX = (CHOSEN or os.environ.get("PIP_INDEX_URL") or "https://pypi.org/simple").rstrip("/")
JSON = "application/vnd.pypi.simple.v1+json"
TIMEOUT = 30  # seconds without receiving a byte


class File(NamedTuple):
    name: str
    url: str
    sha256: str | None


def main(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        if not by_pip(folder):
            by_hand(folder)
        (folder / "bin/uv").chmod(0o755)
        (folder / "bin/uv").replace(target)  # completely or not at all


def by_pip(folder: Path) -> bool:
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--target",
        str(folder),
        *(["--index-url", CHOSEN] if CHOSEN else []),
    ]
    environment = os.environ | {"PIP_REQUIRE_VIRTUALENV": "0", "PIP_USER": "0", "PIP_RETRIES": "1"}
    command = [sys.executable, "-m", "pip", "install", "--quiet", *options, f"uv=={VERSION}"]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0


def by_hand(folder: Path) -> None:
    """Fetches uv without pip. Exits with one line if that fails."""
    try:
        file = fitting(listing(f"{INDEX}/uv/"))
        content, _ = fetch(file.url)
        if file.sha256 and hashlib.sha256(content).hexdigest() != file.sha256:
            raise ValueError(f"{file.name} is not the file that it lists")
        with zipfile.ZipFile(io.BytesIO(content)) as wheel:
            (program,) = [name for name in wheel.namelist() if name.endswith(".data/scripts/uv")]
            (folder / "bin").mkdir(exist_ok=True)
            (folder / "bin/uv").write_bytes(wheel.read(program))
    except (OSError, ValueError, LookupError, HTTPException, zipfile.BadZipFile) as error:
        where = urlsplit(INDEX)._replace(netloc=urlsplit(INDEX).netloc.rpartition("@")[2]).geturl()
        sys.exit(f"uv is not here and can't be had from {where} ({error}): check the network, or put uv on the PATH.")


def listing(address: str) -> list[File]:
    """The files of uv that an index lists, whether it answers in JSON or in HTML."""
    content, kind = fetch(address, Accept=f"{JSON}, text/html;q=0.5")
    if kind.endswith("json"):
        files = json.loads(content)["files"]
        return [File(each["filename"], urljoin(address, each["url"]), each["hashes"].get("sha256")) for each in files]
    found = []
    for tag in re.findall(r"<a\s[^>]*>", content.decode(), re.IGNORECASE):
        if link := re.search(r"""href\s*=\s*["']([^"']+)""", tag, re.IGNORECASE):
            url, fragment = urldefrag(urljoin(address, html.unescape(link[1])))
            digest = re.fullmatch(r"sha256=(\w+)", fragment)
            name = unquote(urlsplit(url).path).rpartition("/")[2]
            found.append(File(name, url, digest and digest[1]))
    return found


def fitting(files: list[File]) -> File:
    """The wheel that this system can run. Raises LookupError if there is none."""
    system = {"linux": "musllinux" if "musl" in str(sysconfig.get_config_var("SOABI")) else "manylinux"}
    tag = rf"{system.get(sys.platform, 'macosx')}\w*_({platform.machine()}|universal2)"
    name = re.compile(rf"uv-{re.escape(VERSION)}-py3-none-(\w+\.)*{tag}(\.\w+)*\.whl")
    for file in files:
        if name.fullmatch(file.name):
            return file
    raise LookupError(f"no wheel of {VERSION} for {platform.system()} on {platform.machine()}")


def fetch(address: str, **headers: str) -> tuple[bytes, str]:
    """The content of the address and its content type; a login in the address is sent as a header."""
    parts = urlsplit(address)
    login, _, host = parts.netloc.rpartition("@")
    if login:
        headers["Authorization"] = f"Basic {b64encode(unquote(login).encode()).decode()}"
    request = Request(parts._replace(netloc=host).geturl(), headers=headers)  # noqa: S310 - the user's own index
    with urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
        return answer.read(), answer.headers.get_content_type()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
