"""A service that is a UI alone, in the layouts that Vite, Angular and webpack write."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from chassis import settings
from chassis.web import bundle, publish, ui
from chassis.web.bundle import BundleError

YEAR = "public, max-age=31536000, immutable"
VITE, ANGULAR, WEBPACK = "assets/index-BfYkPq8s.js", "main-TKX5FEAQ.js", "static/js/main.1a2b3c4d.js"
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def service(tmp_path, monkeypatch):
    """The folder of a service `shop` with the page that a new one has; nothing is built."""
    package = tmp_path / "shop/src/shop"
    write(package, "__init__.py")
    write(package, "static/index.html", "the first page")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("SERVICE", "shop")
    return tmp_path / "shop"


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    uses_database: ClassVar[bool] = False
    uses_secret_key: ClassVar[bool] = False


@pytest.fixture
def client(service):
    """`client("/shop")`: of the service below that prefix, in production."""
    return lambda prefix="", env="production": ui.create_app(Settings(app_env=env, url_prefix=prefix)).test_client()


def write(folder, name, text=""):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def build(service, page, *files, dist="ui/dist"):
    write(service, "ui/package.json", "{}")
    write(service / dist, "index.html", page)
    for name in ("favicon.ico", *files):
        write(service / dist, name, name)


def test_a_new_service_has_its_page_at_every_path(client):
    app = client()
    assert app.get("/").text == app.get("/orders/7").text == "the first page"


@pytest.mark.parametrize(
    ("page", "name", "dist"),
    [
        (f'<script type="module" crossorigin src="/shop/{VITE}"></script>', VITE, "ui/dist"),
        (f'<base href="/shop/"><script src="{ANGULAR}" type="module"></script>', ANGULAR, "ui/dist/shop/browser"),
        (f'<script defer="defer" src="/shop/{WEBPACK}"></script>', WEBPACK, "ui/dist"),
    ],
    ids=["vite", "angular", "webpack"],
)
def test_what_was_built_is_served_as_it_is_and_hashed_files_are_kept_for_a_year(service, client, page, name, dist):
    build(service, page, name, dist=dist)
    app = client("/shop")
    assert app.get("/shop").location.endswith("/shop/")
    for path in ("/shop/", "/shop/orders", "/shop/orders/7"):
        assert (app.get(path).text, app.get(path).headers["Cache-Control"]) == (page, "no-cache"), path
    hashed, other = app.get(f"/shop/{name}"), app.get("/shop/favicon.ico")
    assert (hashed.text, hashed.headers["Cache-Control"]) == (name, YEAR)
    assert (other.text, other.headers["Cache-Control"]) == ("favicon.ico", "no-cache")
    again = app.get("/shop/favicon.ico", headers={"If-None-Match": other.headers["ETag"]})
    assert again.status_code == 304
    assert app.get("/shop/index.html").location.endswith("/shop/")
    assert app.get(f"/{name}").status_code == 404


def test_a_missing_file_is_a_404_and_a_browser_gets_the_page_at_a_path_with_a_dot(service, client):
    build(service, "page", VITE)
    app = client()
    for path in ("/assets/gone-12345678.js", "/gone.css", "/logo.png", "/../../etc/passwd"):
        assert app.get(path).status_code == 404, path
    answer = app.get("/users/anna.Schmidt12.x", headers=BROWSER)
    assert (answer.text, answer.headers["Cache-Control"]) == ("page", "no-cache")
    assert app.post("/orders").status_code == 405


def test_health_and_version_are_no_paths_of_the_ui(service, client):
    build(service, "page")
    assert client().get("/version").json["name"]
    assert client().get("/health/live").text != "page"


def test_production_without_what_npm_builds_does_not_start_and_says_what_to_do(service, client):
    write(service, "ui/package.json", "{}")
    with pytest.raises(BundleError, match=r"no \S+/shop/ui/dist/index\.html: `npm run build` makes it"):
        client()
    assert client(env="development").get("/health/live").status_code == 200
    assert client(env="development").get("/orders").status_code == 500


@pytest.mark.parametrize("page", [f'<script type="module" src="/{VITE}"></script>', '<base href="/">'])
def test_production_with_a_ui_that_was_built_for_another_path_does_not_start_and_says_what_to_set(
    service, client, page
):
    build(service, page, VITE)
    with pytest.raises(BundleError, match=r'`base` in vite\.config\.js, or `baseHref` in angular\.json, to "/shop/"'):
        client("/shop")
    assert client("/shop", env="development").get("/shop/").status_code == 500
    assert client().get("/").text == page


def test_a_script_of_the_site_that_the_ui_is_a_part_of_is_no_mistake(service, client):
    build(service, '<script src="/settings.js"></script><link rel="icon" href="/favicon.ico">')
    assert client("/shop").get("/shop/").status_code == 200


@pytest.mark.parametrize("name", ["hero-portrait.jpg", "report.20240101.pdf", "photo-20240101.jpg", "icon-192x192.png"])
def test_a_word_or_a_date_in_a_name_is_no_hash(name):
    assert not bundle.BUNDLED(name)
    assert not bundle.BUNDLED(f"assets/{name}")


def test_only_hashed_files_are_published_beside_those_of_the_former_release(service, tmp_path):
    package, target = service / "src/shop", tmp_path / "published"
    build(service, "page", VITE)
    publish.publish({}, target, bundle.built(package))
    (service / "ui/dist" / VITE).unlink()
    build(service, "page", "assets/index-Zk91Lm_x.js")
    publish.publish({}, target, bundle.built(package))
    published = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert published == {VITE, "assets/index-Zk91Lm_x.js"}


def test_a_file_that_changed_under_the_same_name_is_published_with_its_compressed_copies(service, tmp_path):
    package, place = service / "src/shop", tmp_path / "published" / VITE
    for text in ("a" * 100, "b"):
        build(service, "page")
        write(service / "ui/dist", VITE, text)
        publish.publish({}, tmp_path / "published", bundle.built(package))
        assert place.read_text() == text
        assert place.with_name(f"{place.name}.gz").exists() == (len(text) > 1)
