"""A bundle that Vite 8 built from tests/bundle, in a page."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask, render_template_string

from chassis.web import assets, publish, security, vite
from devserver.sources import Sources

BUILT = Path(__file__).parent / "bundle/built"
SERVER = "http://localhost:5173"


def made(root, settings, env, url=""):
    app = Flask("sample", root_path=str(root))
    settings = replace(settings, app_env=env, vite_url=url)
    security.init_app(app, settings)
    assets.init_app(app)
    vite.init_app(app, settings)
    app.get("/<path:entry>")(lambda entry: render_template_string("{{ vite(entry) }}", entry=entry))
    return app


@pytest.fixture
def root(tmp_path):
    shutil.copytree(BUILT, tmp_path / "static/ui")
    return tmp_path


def test_the_tags_name_each_file_once_and_every_one_is_kept_for_a_year(root, settings):
    client = made(root, settings, "production").test_client()
    page = client.get("/src/main.js").text
    tags = re.findall(r'<(link|script) (?:rel|type)="(\w+)" (?:href|src)="(\S+/assets/\w+-[\w-]{8}\.\w+)">', page)
    assert [kind for _, kind, _ in tags] == ["stylesheet", "modulepreload", "module"]
    assert len({url for _, _, url in tags}) == len(tags)
    for _, _, url in tags:
        answer = client.get(url)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


def test_a_published_bundle_keeps_its_names(root, tmp_path):
    publish.publish({"": root / "static"}, tmp_path / "published")
    named = {path.name for path in (BUILT / "assets").iterdir()}
    assert len(named) >= 5
    assert named <= {path.name for path in (tmp_path / "published/ui/assets").iterdir()}


def test_production_without_a_bundle_does_not_start_and_says_what_to_do(tmp_path, settings):
    with pytest.raises(vite.BundleError, match=r"no .*static/ui/\.vite/manifest\.json: `npm run build` makes it"):
        made(tmp_path, settings, "production")


def test_a_service_without_one_still_passes_its_own_tests_but_for_the_page(tmp_path, settings):
    app = made(tmp_path, settings, "test")
    app.testing = True
    with pytest.raises(vite.BundleError, match="npm run build"):
        app.test_client().get("/src/main.js")


def test_a_damaged_manifest_and_an_unknown_entry_are_named(root, settings):
    app = made(root, settings, "test")
    app.testing = True
    with pytest.raises(vite.BundleError, match=r"has no src/nothing\.js"):
        app.test_client().get("/src/nothing.js")
    (root / "static/ui/.vite/manifest.json").write_text("{")
    with pytest.raises(vite.BundleError, match="is not JSON"):
        app.test_client().get("/src/main.js")


def test_while_developing_the_page_takes_everything_from_vites_server_and_may(tmp_path, settings):
    page = made(tmp_path, settings, "development", f"{SERVER}/").test_client().get("/src/main.js")
    assert re.findall(r'src="(\S+)"', page.text) == [f"{SERVER}/@vite/client", f"{SERVER}/src/main.js"]
    policy = page.headers["Content-Security-Policy"]
    assert f"script-src 'self' {SERVER};" in policy
    assert f"connect-src 'self' {SERVER} ws://localhost:5173" in policy


def test_production_takes_nothing_from_a_dev_server(root, settings):
    page = made(root, settings, "production", SERVER).test_client().get("/src/main.js")
    assert SERVER not in page.text
    assert page.headers["Content-Security-Policy"] == settings.content_security_policy


def test_the_development_server_leaves_the_bundles_source_to_vite_and_sees_what_is_built(tmp_path):
    service = tmp_path / "services/web"
    for name in ("ui/src/main.js", "src/web/static/ui/assets/main-DdHI5POo.js"):
        (service / name).parent.mkdir(parents=True)
        (service / name).touch()
    assert list(Sources(tmp_path, service).changes()) == []
    assert [Path(path).name for path in Sources(tmp_path, service).seen] == ["main-DdHI5POo.js"]
