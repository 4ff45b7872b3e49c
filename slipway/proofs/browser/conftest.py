"""What a user sees, in a real Chromium: sites to visit, and pages that report what went wrong on them.

Chromium is Debian's (`apt-get install chromium`), Chrome, or the program that $CHROMIUM names. The last page
that a test saw is kept as a picture in .cache/screenshots.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, sync_playwright

from slipway.proofs import harness
from slipway.proofs.harness import ROOT, Stack, copy_tree, free_port, ports, started, unique, wait_until

T = TypeVar("T")

PICTURES = ROOT / ".cache/screenshots"
STOP_TIMEOUT = 30  # seconds
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


class Site:
    """A running app: its `url`, the `directory` of its sources, and `stack`, its containers if there are any."""

    def __init__(self, url: str, directory: Path, stack: Stack | None = None) -> None:
        self.url, self.directory, self.stack = url, directory, stack

    def stop_database(self) -> None:
        """Stops it for good: only another site has a database again."""
        if self.stack:
            self.stack.compose("stop", "db")
        else:
            with suppress(OSError):  # it has ended
                pid = (self.directory / ".data/postgres/data/postmaster.pid").read_text().split()[0]
                os.kill(int(pid), signal.SIGQUIT)

    @property
    def production(self) -> bool:
        return self.stack is not None


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # A proxy that this machine uses for the internet can't reach a site on this host.
        browser = playwright.chromium.launch(executable_path=harness.chromium(), args=["--no-proxy-server"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def development(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`make dev` without Docker, in a copy of the tree: edit the files in its `directory`, and look at the page."""
    with native(copy_tree(tmp_path_factory.mktemp("site"))) as site:
        yield site


@pytest.fixture(scope="module", params=["development", pytest.param("production", marks=pytest.mark.containers)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same app in development, and deployed behind the proxy."""
    directory = copy_tree(tmp_path_factory.mktemp("site"))
    if request.param == "development":
        with native(directory) as found:
            yield found
    else:
        with started(Stack(directory, unique("browser"), **ports())) as stack:
            yield Site(f"https://localhost:{stack.environment['HTTPS_PORT']}", directory, stack)


class native:
    """The development server of the sources in `directory`, as a context manager that gives its Site."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory, self.port, self.settings = directory, free_port(), settings

    def __enter__(self) -> Site:
        sources = [self.directory / "slipway/chassis/src", *self.directory.glob("services/*/src")]
        environment = Stack(self.directory, "native").environment | self.settings
        environment |= {"DEV_PORT": str(self.port), "PYTHONPATH": os.pathsep.join(map(str, sources))}
        self.log = self.directory / "native.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "slipway.commands.shared.native"],
                cwd=self.directory,
                env=environment,
                stdout=log,
                stderr=log,
            )
        url = f"http://localhost:{self.port}"
        try:
            wait_until("the app", lambda: self.answers(url), 60)
        except BaseException:
            self.__exit__()
            raise
        return Site(url, self.directory)

    def answers(self, url: str) -> bool:
        if self.process.poll() is not None:
            pytest.fail(self.log.read_text())
        return httpx.get(f"{url}/health/live", trust_env=False).status_code == 200

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(STOP_TIMEOUT)


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What a browser's console would show in red, for all pages of the test; it must be empty when the test ends.

    A test that provokes an error looks for it here, and removes it.
    """
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def visit(chromium: Browser, request: pytest.FixtureRequest, complaints: list[str]) -> Iterator[Callable[..., Page]]:
    """`visit(url, dark=True, narrow=True, script=False, **context)`: a page in a fresh browser."""
    pages: list[Page] = []

    def open_page(url: str, dark: bool = False, narrow: bool = False, script: bool = True, **context) -> Page:
        options = {
            "color_scheme": "dark" if dark else "light",
            "viewport": NARROW if narrow else WIDE,
            "ignore_https_errors": True,  # Caddy's own authority
            "locale": "en-GB",
            **context,
        }
        page = chromium.new_context(**options).new_page()
        if not script:  # only the site's, not axe's: with JavaScript off altogether, axe could not run
            page.route("**/*.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
        page.on("console", lambda message: complaints.extend(worth_noting(message)))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.set_default_timeout(15_000)
        page.set_default_navigation_timeout(40_000)
        page.persist, goto = persistently(page), page.goto
        page.goto = lambda url: page.persist(lambda: goto(url))
        pages.append(page)
        page.goto(url)
        return page

    yield open_page
    for number, page in enumerate(pages):
        if not page.is_closed():
            picture(page, f"{request.node.name}-{number}")
        page.context.close()


# What Chromium says of a request if a network of the machine came or went: it cuts every open connection.
CUT = re.compile("net::ERR_(NETWORK_CHANGED|SOCKET_NOT_CONNECTED)").search


def persistently(page: Page) -> Callable[[Callable[[], T]], T]:
    """Does what it is given, again if a network of the machine came or went meanwhile: Chromium then aborts what it is
    doing, be that the page or its stylesheet."""
    failures: list[str | None] = []
    page.on("requestfailed", lambda request: failures.append(request.failure))

    def persist(act: Callable[[], T]) -> T:
        for _ in range(10):
            failures.clear()
            try:
                result = act()
                if not any(map(CUT, filter(None, failures))):
                    return result
            except Error as error:
                if not CUT(str(error)) and "chrome-error:" not in str(error):
                    raise
                page.wait_for_timeout(200)  # until Chromium has shown its own page
        return act()

    return persist


def worth_noting(message) -> Iterator[str]:
    """Whether it is an error or a warning, unless it says that the page itself is a 404, or that a network changed."""
    own = message.location.get("url") == message.page.url
    if message.type in ("error", "warning") and not own and not CUT(message.text):
        yield f"{message.text} ({message.location.get('url')})"


def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.png", full_page=True)


def barriers(page: Page) -> list[str]:
    """What axe-core finds on the page: each violation's rule, and the elements that break it."""
    # Without its preload, which reads stylesheets with an inline style that the page's policy refuses.
    found = Axe().run(page, options={"preload": False}).response["violations"]
    return [f"{each['id']}: {node['html'][:120]}" for each in found for node in each["nodes"]]


@pytest.fixture(name="barriers")
def _barriers() -> Callable[[Page], list[str]]:
    return barriers
