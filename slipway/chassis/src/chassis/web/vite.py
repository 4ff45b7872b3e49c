"""A UI bundle that Vite has built, in a template: `{{ vite("src/main.js") }}` (docs/frontend.md).

The tags name the files of static/ui, from its manifest; assets.py and the proxy have those cached for a year. In
development with VITE_URL they name Vite's dev server instead, from which the browser loads each module as it is saved.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flask import Flask, current_app, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response

from chassis.settings import Settings
from chassis.web.bundle import BundleError

FOLDER, MANIFEST = "ui", ".vite/manifest.json"

Chunk = dict[str, Any]

SCRIPT = Markup('<script type="module" src="{}"></script>')
PRELOAD = Markup('<link rel="modulepreload" href="{}">')
STYLE = Markup('<link rel="stylesheet" href="{}">')


def init_app(app: Flask, settings: Settings) -> None:
    """Raises BundleError in production if there is no bundle, so that such a release never serves."""
    if settings.development and settings.vite_url:
        url = settings.vite_url.rstrip("/")
        app.jinja_env.globals["vite"] = lambda entry: _from_dev_server(url, entry)
        app.after_request(_admit(url, settings.content_security_policy))
        return
    if settings.production:
        _manifest(app)
    app.jinja_env.globals["vite"] = _built


def _built(entry: str) -> Markup:
    manifest = _manifest(current_app)
    if entry not in manifest:
        raise BundleError(f"the bundle has no {entry}: name it in rollupOptions.input of vite.config.js.")
    chunks = list(_with_imports(manifest, entry, set()))
    styles = dict.fromkeys(style for chunk in chunks for style in chunk.get("css", []))
    tags = [STYLE.format(_url(style)) for style in styles]
    tags += [PRELOAD.format(_url(chunk["file"])) for chunk in chunks[1:]]
    return Markup("\n").join([*tags, SCRIPT.format(_url(chunks[0]["file"]))])


def _with_imports(manifest: dict[str, Chunk], name: str, seen: set[str]) -> Iterator[Chunk]:
    """The chunk, then all that it needs before it can run, each once."""
    if name not in seen:
        seen.add(name)
        yield manifest[name]
        for each in manifest[name].get("imports", []):
            yield from _with_imports(manifest, each, seen)


def _url(file: str) -> str:
    return url_for("static", filename=f"{FOLDER}/") + file  # its own name, by which chunks import it


def _manifest(app: Flask) -> dict[str, Chunk]:
    """What Vite wrote beside its files: vite.dev/guide/backend-integration."""
    path = Path(app.static_folder or "", FOLDER, MANIFEST)
    try:
        manifest: dict[str, Chunk] = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        where = "`npm run build` makes it, or set VITE_URL to Vite's dev server while developing"
        raise BundleError(f"the UI bundle is missing, there is no {path}: {where}.") from None
    except ValueError:
        raise BundleError(f"the UI bundle is damaged, {path} is not JSON: `npm run build` makes it again.") from None
    return manifest


def _from_dev_server(url: str, entry: str) -> Markup:
    return Markup("\n").join(SCRIPT.format(f"{url}/{path}") for path in ("@vite/client", entry))


def _admit(url: str, policy: str) -> Callable[[Response], Response]:
    """Lets pages load scripts, styles and images from the dev server, which sends styles inline."""
    policy = (
        f"{policy}; script-src 'self' {url}; style-src 'self' 'unsafe-inline' {url};"
        f" img-src 'self' data: {url}; font-src 'self' {url}; connect-src 'self' {url} {url.replace('http', 'ws', 1)}"
    )

    def admit(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return admit
