"""Every page, in development and deployed: readable by everyone, with a clean console."""

import pytest
from playwright.sync_api import expect

from slipway.proofs.harness import wait_until

LOOKS = {
    "light and wide": {},
    "dark and wide": {"dark": True},
    "light and narrow": {"narrow": True},
    "dark and narrow": {"dark": True, "narrow": True},
    "without JavaScript": {"script": False},
}
deployed = pytest.mark.parametrize(
    "site", [pytest.param("production", marks=pytest.mark.containers)], indirect=True, scope="module"
)


@pytest.fixture(params=LOOKS.values(), ids=LOOKS)
def look(request):
    return request.param


@pytest.fixture
def readable(barriers):
    """Fails if axe finds a barrier, a heading is missing, or the page scrolls sideways."""

    def check(page):
        assert page.get_by_role("heading", level=1).count() == 1
        assert barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{page.url} scrolls sideways"

    return check


def places(page):
    """The paths of all pages that the navigation leads to."""
    links = page.get_by_role("navigation", name="Main").get_by_role("link")
    return [links.nth(number).get_attribute("href") for number in range(links.count())]


def secret(site):
    return (site.directory / "secrets/status_token").read_text().strip()


def signed_in(site, visit, **look):
    """The board as seen by an operator who knows the token and uses no mouse."""
    page = visit(f"{site.url}/status", **look)

    def sign_in():
        page.goto(f"{site.url}/status")
        if page.locator("#replicas").count():  # what was cut was the page, not the sending
            return
        while not page.locator("#token:focus").count():
            page.keyboard.press("Tab")
        page.keyboard.type(secret(site))
        with page.expect_navigation():
            page.keyboard.press("Enter")

    page.persist(sign_in)
    page.wait_for_selector("#replicas")
    return page


def test_anybody_can_read_every_page(site, visit, look, readable):
    page = visit(site.url, **look)
    for path in ["/", "/status", "/api/docs", "/nowhere", *places(page)]:
        page.goto(site.url + path)
        readable(page)


@deployed
def test_the_public_learns_name_and_version_only(site, visit):
    page = visit(site.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("web is up.")
    for private in ("Replica", "PostgreSQL", "Migrations", "Make it yours", "/status", "/metrics"):
        assert private not in page.content()
    answer = page.request.get(f"{site.url}/status", headers={"Accept": "application/json"})
    assert answer.json().keys() == {"name", "version", "status"}


@deployed
def test_the_token_shows_every_replica_and_stays_out_of_urls_and_logs(site, visit, look, readable):
    page = signed_in(site, visit, **look)
    for name in ("Replica web-a", "Replica web-b"):
        expect(page.get_by_role("region", name=name)).to_contain_text("Serves")
    readable(page)
    page.goto(site.url)
    expect(page.get_by_role("region", name="Replica web-b")).to_contain_text("PostgreSQL 18")
    expect(page.get_by_text("Make it yours")).to_have_count(0)
    assert secret(site) not in page.url + site.stack.compose("logs").stdout


@deployed
def test_a_wrong_token_is_said_to_be_wrong(site, visit, readable, complaints):
    page = visit(f"{site.url}/status")

    def guess():
        page.goto(f"{site.url}/status")
        page.get_by_label("Status token").fill("guess")
        with page.expect_navigation():
            page.get_by_role("button").click()

    page.persist(guess)
    field = page.get_by_label("Status token")
    expect(field).to_be_focused()
    expect(field).to_have_accessible_description("Its operators see more: the token is in secrets/status_token "
                                                 "on the server. That is not the token.")  # fmt: skip
    readable(page)


@deployed
def test_a_replica_that_is_gone_is_named(site, visit):
    page = signed_in(site, visit)
    site.stack.compose("stop", "web-b")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("web is up, on 1 of 2 replicas.", timeout=30_000)
    expect(page.get_by_role("region", name="Replica web-b")).to_contain_text("Does not answer")
    site.stack.compose("start", "web-b")
    expect(heading).to_have_text("web is up.", timeout=60_000)


@deployed
def test_an_error_of_the_app_says_nothing_of_its_cause(site, visit, look, readable):
    page = visit(site.url, **look)
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    for table in site.stack.sql(tables).split():
        site.stack.sql(f"REVOKE ALL ON {table} FROM web")
    for path in places(page):
        page.goto(site.url + path)
        expect(page.get_by_role("heading", level=1)).to_have_text("Something broke on our side.")
        assert "permission denied" not in page.content()
        readable(page)


@deployed
def test_the_proxy_says_that_the_site_is_being_worked_on(site, visit, look, readable):
    site.stack.make("maintenance")
    page = visit(site.url, **look)
    site.stack.make("maintenance-off")
    expect(page.get_by_role("heading", level=1)).to_have_text("Closed for maintenance.")
    readable(page)


@deployed
def test_the_proxy_answers_where_the_app_is_away(site, visit, readable):
    site.stack.compose("kill", "web-a", "web-b")
    with site.stack.client() as client:
        wait_until("503", lambda: client.get("/").status_code == 503, 60)
    page = visit("about:blank")
    # The proxy waits 15 s for a replica; meanwhile a network of the machine may well come or go.
    page.route("**/*", lambda route: route.fulfill(response=route.fetch(timeout=40_000)))
    page.goto(site.url)
    expect(page.get_by_role("heading", level=1)).to_have_text("Out of reach for the moment.")
    readable(page)
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 360, "height": 740})
    readable(page)
