"""A package index on this machine that has uv, to test what fetches it."""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class Handler(SimpleHTTPRequestHandler):
    def guess_type(self, path: str) -> str:
        return "application/vnd.pypi.simple.v1+json" if path.endswith(".json") else super().guess_type(path)

    def translate_path(self, path: str) -> str:
        here = Path(super().translate_path(path))
        return str(here / "index.json" if (here / "index.json").exists() else here)

    def log_message(self, *words: object) -> None:
        pass


def wheel(folder: Path, version: str, tags: str, program: bytes) -> dict[str, Any]:
    """Writes a wheel of uv, and returns what the index says about it."""
    path = folder / f"uv-{version}-py3-none-{tags}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"uv-{version}.data/scripts/uv", program)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"filename": path.name, "url": f"../../{path.name}", "hashes": {"sha256": digest}}


@contextmanager
def served(folder: Path, *wheels: dict[str, Any], html: bool = False) -> Iterator[str]:
    """The address of an index of these wheels, which lie in the folder, in JSON (PEP 691) or HTML (PEP 503)."""
    page = folder / "simple/uv"
    page.mkdir(parents=True)
    if html:
        links = (f'<a href="{each["url"]}#sha256={each["hashes"]["sha256"]}">{each["filename"]}</a>' for each in wheels)
        (page / "index.html").write_text("\n".join(links))
    else:
        (page / "index.json").write_text(json.dumps({"meta": {"api-version": "1.1"}, "files": wheels}))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()
