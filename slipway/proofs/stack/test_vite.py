"""docs/frontend.md, followed with a bundle that Vite 8 built from slipway/chassis/tests/bundle."""

import re
import shutil

import pytest

from slipway.proofs.harness import ROOT, Stack, copy_tree, ports, started, unique

BUNDLE = ROOT / "slipway/chassis/tests/bundle"
YEAR = "public, max-age=31536000, immutable"
RECIPE = (ROOT / "docs/frontend.md").read_text().partition("## A bundle in a page of a service")[2]


def block(language):
    """The recipe's only block in that language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", RECIPE, re.DOTALL)
    return found


def edit(path, former, new):
    text = path.read_text()
    assert text.count(former) == 1
    path.write_text(text.replace(former, new))


@pytest.fixture(scope="module")
def production(tmp_path_factory):
    directory = copy_tree(tmp_path_factory.mktemp("bundle"))
    package = directory / "services/web/src/web"
    shutil.copytree(BUNDLE / "built", package / "static/ui")
    edit(package / "app.py", "    setup(app, settings)\n", "    setup(app, settings)\n" + block("python"))
    edit(package / "app.py", "from chassis.web.setup", "from chassis.web import vite\nfrom chassis.web.setup")
    edit(package / "templates/home.html", "{% block main %}", "{% block main %}" + block("html"))
    with started(Stack(directory, unique("bundle"), **ports())) as stack:
        yield stack


def test_the_bundle_was_built_as_the_recipe_says():
    tested = (BUNDLE / "vite.config.js").read_text()
    assert block("js") == tested.replace('["src/main.js", "src/other.js"]', '["src/main.js"]')


@pytest.mark.containers
def test_each_file_of_the_bundle_is_served_by_the_proxy_compressed_and_kept_for_a_year(production):
    with production.client() as client:
        page = client.get("/")
        assert "'unsafe" not in page.headers["content-security-policy"]
        tags = re.findall(r'(?:href|src)="(/static/ui/[^"]+)"', page.text)
        assert len(tags) == 3
        production.compose("kill", "web-a", "web-b")  # so that only the proxy can answer
        for path in sorted((BUNDLE / "built/assets").iterdir()):
            answer = client.get(f"/static/ui/assets/{path.name}", headers={"Accept-Encoding": "gzip"})
            assert (answer.status_code, answer.headers["cache-control"]) == (200, YEAR)
            assert answer.content == path.read_bytes()
            tags = [url for url in tags if not url.endswith(path.name)]
        assert tags == []
        main = next((BUNDLE / "built/assets").glob("main-*.js")).name
        answer = client.get(f"/static/ui/assets/{main}", headers={"Accept-Encoding": "zstd"})
        assert answer.headers["content-encoding"] == "zstd"
