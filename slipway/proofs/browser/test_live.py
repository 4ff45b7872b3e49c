"""An open page follows the code in development: it is never older than the last save."""

from slipway.proofs.harness import wait_until

APP = "services/web/src/web/app.py"
HOME = "services/web/src/web/templates/home.html"
STYLE = "services/web/src/web/static/style.css"
FORM = '<form id="kept"><input name="word"><textarea name="text"></textarea><input name="pin" type="password"></form>'


def save(site, name, change):
    path = site.directory / name
    path.write_text(change(path.read_text()))


def test_a_page_follows_a_saved_template_and_keeps_what_was_typed_and_where_it_was(development, visit):
    save(development, HOME, lambda text: text.replace("{% block main %}", "{% block main %}" + FORM + "<p class=tall>"))
    save(development, STYLE, lambda text: text + "\n.tall { height: 3000px }\n")
    page = visit(development.url)
    page.fill("#kept [name=word]", "half a thought")
    page.fill("#kept [name=text]", "and\nmore")
    page.fill("#kept [name=pin]", "secret")
    page.evaluate("scrollTo(0, 700)")
    save(development, HOME, lambda text: text.replace("<p class=tall>", "<p class=tall></p><h2>News</h2>"))
    page.get_by_role("heading", name="News").wait_for(state="attached")
    wait_until("the words", lambda: page.input_value("#kept [name=word]") == "half a thought")
    assert page.input_value("#kept [name=text]") == "and\nmore"
    assert page.input_value("#kept [name=pin]") == ""
    wait_until("the place", lambda: abs(page.evaluate("scrollY") - 700) < 5)
    assert "secret" not in page.evaluate("JSON.stringify({...sessionStorage})")


def test_a_saved_style_is_swapped_and_the_page_stays(development, visit):
    page = visit(development.url)
    page.evaluate("window.same = true")
    sheets = page.locator("link[rel=stylesheet]").count()
    save(development, STYLE, lambda text: text + "\nbody { outline: 7px solid rgb(1, 2, 3) }\n")
    wait_until("the style", lambda: page.evaluate("getComputedStyle(document.body).outlineWidth") == "7px")
    assert page.evaluate("window.same") is True
    wait_until("no sheet of before", lambda: page.locator("link[rel=stylesheet]").count() == sheets)


def test_broken_code_shows_its_line_and_the_page_comes_back_by_itself(development, visit, complaints):
    page = visit(development.url)
    good = (development.directory / APP).read_text()
    save(development, APP, lambda text: text + "\nimport a_module_that_is_not_there\n")
    page.get_by_role("heading", name="ModuleNotFoundError").wait_for()
    assert "a_module_that_is_not_there" in page.locator(".marked").first.inner_text()
    save(development, APP, lambda text: text.replace("a_module", "another_module"))
    page.get_by_role("heading", name="another_module_that_is_not_there").wait_for()
    (development.directory / APP).write_text(good)
    page.get_by_role("heading", level=1, name="Up").wait_for()
    complaints.clear()  # the page itself was a 500


def test_the_error_page_can_be_read_by_anybody(development, visit, barriers, complaints):
    good = (development.directory / APP).read_text()
    save(development, APP, lambda text: text + "\nimport a_module_that_is_not_there\n")
    try:
        for dark, narrow in ((False, False), (True, False), (False, True), (True, True)):
            page = visit(development.url, dark=dark, narrow=narrow)
            page.get_by_role("heading", name="ModuleNotFoundError").wait_for()
            assert barriers(page) == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    finally:
        (development.directory / APP).write_text(good)
    complaints.clear()


def test_twelve_open_pages_starve_neither_each_other_nor_the_app(development, visit):
    """More than a server's threads, and more than a browser's connections to one host."""
    page = visit(development.url)
    pages = [page, *(page.context.new_page() for _ in range(11))]
    for each in pages[1:]:
        each.goto(development.url, timeout=5000)
    save(development, HOME, lambda text: text.replace("{% block main %}", "{% block main %}<h2>For all</h2>"))
    for each in pages:
        each.bring_to_front()
        each.get_by_role("heading", name="For all").wait_for(state="attached")
