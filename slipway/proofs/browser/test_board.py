"""The home page in development: a status board that updates itself, and a list that ticks itself off."""

import re
import urllib.request

import pytest
from playwright.sync_api import expect

TIMEOUT = 20_000  # milliseconds, over a few of the page's intervals


@pytest.fixture
def board(development, visit):
    return visit(development.url)


def figures(page, name):
    return page.locator("figcaption", has_text=name)


def test_it_shows_the_replica_its_database_and_its_schema(board):
    replica = board.get_by_role("region", name=re.compile("Replica"))
    for text in ("Serves", "PostgreSQL 18", "Up to date", "ms typically"):
        expect(replica).to_contain_text(text)


def test_it_counts_requests_and_errors_without_being_reloaded(development, board):
    board.evaluate("window.untouched = true")
    before = int((re.search(r"\d+", figures(board, "Requests").text_content()) or ["0"])[0]) + 1  # the page itself
    for _ in range(7):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(development.url + "/").read()
    expect(figures(board, "Requests")).to_contain_text(f"{before + 7}, no errors", timeout=TIMEOUT)
    assert board.evaluate("untouched")


def test_it_counts_the_app_itself_and_not_its_own_questions(development, visit):
    page = visit(development.url + "/status")
    before = figures(page, "Requests").text_content()
    answer = page.locator("#replicas code")
    first = answer.text_content()
    expect(answer).not_to_have_text(first, timeout=TIMEOUT)
    assert figures(page, "Requests").text_content() == before


def test_without_javascript_it_shows_the_same(development, visit):
    page = visit(development.url, script=False)
    expect(page.get_by_role("region", name=re.compile("Replica"))).to_contain_text("PostgreSQL 18")
    expect(page.get_by_text("Reload the page for newer figures")).to_be_visible()


def test_it_asks_nothing_while_nobody_looks(board):
    asked = []
    board.on("request", lambda request: asked.append(request))
    board.clock.install()
    board.reload()
    board.evaluate("""
        Object.defineProperty(document, "hidden", { get: () => window.away ?? false, configurable: true });
        window.away = true; document.dispatchEvent(new Event("visibilitychange"))""")
    asked.clear()
    board.clock.run_for(60_000)
    assert [request.url for request in asked if request.resource_type == "fetch"] == []  # and no picture that was late
    with board.expect_request("**/status"):
        board.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")


def test_it_says_so_when_the_app_is_away_and_when_it_is_back(board, complaints):
    board.route("**/status", lambda route: route.abort())
    trouble = board.get_by_role("alert")
    expect(trouble).to_contain_text("No answer since", timeout=TIMEOUT)
    board.unroute("**/status")
    expect(trouble).to_be_hidden(timeout=TIMEOUT)
    assert all("ERR_FAILED" in each for each in complaints)
    complaints.clear()


def test_the_list_ticks_itself_off(development, board):
    done = board.locator(".tasks .done")
    expect(board.get_by_role("heading", name="Make it yours")).to_contain_text("of 4 done")
    before = done.count()
    secrets = development.directory / "secrets"
    secrets.mkdir()
    (secrets / "secret_key").write_text("one")
    expect(done.last).to_contain_text("Set the secrets", timeout=TIMEOUT)
    (development.directory / ".slipway.toml").write_text("[fork]")  # by `make rename`
    expect(done.first).to_contain_text("Give it your name", timeout=TIMEOUT)
    (development.directory / ".env").write_text("SITE_ADDRESS=shop.example\n")
    expect(done).to_have_count(before + 3, timeout=TIMEOUT)


def test_every_link_can_be_reached_by_keyboard_and_is_seen_to_be(board):
    board.keyboard.press("Tab")
    expect(board.locator(":focus")).to_have_text("Skip to the content")
    expect(board.locator(":focus")).to_be_in_viewport()
    board.keyboard.press("Enter")
    expect(board.locator("main")).to_be_focused()
    seen = []
    while (focused := board.locator(":focus")).count() and len(seen) < 50:
        board.keyboard.press("Tab")
        if board.evaluate("document.activeElement === document.body"):
            break
        seen.append(focused.get_attribute("href"))
        assert focused.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    links = board.locator("main a")
    assert seen == [links.nth(number).get_attribute("href") for number in range(links.count())]


def test_with_the_database_away_it_says_so_and_stays_readable(development, board, visit, barriers):
    development.stop_database()
    expect(board.get_by_role("heading", level=1)).to_have_text("web is up, its database is not.", timeout=TIMEOUT)
    expect(board.locator("#replicas")).to_contain_text("Unreachable")
    for look in ({}, {"dark": True}, {"narrow": True}):
        assert barriers(visit(development.url, **look)) == []
