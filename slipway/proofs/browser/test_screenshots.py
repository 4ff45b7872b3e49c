"""The pictures in the README and the docs. `make screenshots` takes them again, after 15 minutes of traffic."""

import base64
import math
import os
import time

import httpx
import pytest

from slipway.proofs.browser import test_inspector
from slipway.proofs.browser.conftest import PICTURES
from slipway.proofs.harness import ROOT, wait_until

MINUTES = float(os.environ.get("SCREENSHOTS", 0))
MAX_BYTES = 100_000  # bytes of a picture, which every clone contains


@pytest.fixture(scope="module")
def busy(development):
    """The development site after some traffic, heavier and lighter in turns."""
    until = time.monotonic() + MINUTES * 60
    with httpx.Client(base_url=development.url, trust_env=False) as client:
        while time.monotonic() < until:
            for path in ("/", "/api/docs", "/health/ready"):
                client.get(path)
            time.sleep(2 + math.sin(time.monotonic() / 60))
    return development


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_board_fits_into_a_small_picture(busy, visit, theme):
    page = visit(busy.url, dark=theme == "dark", viewport={"width": 1120, "height": 1010})
    keep(page, f"board-{theme}")


@pytest.fixture(scope="module")
def reported(busy):
    """The same, after a request with a query in a loop, and one that failed."""
    path = busy.directory / test_inspector.APP
    path.write_text(path.read_text().replace("\n    return app", test_inspector.VIEWS))
    with httpx.Client(base_url=busy.url, trust_env=False) as client:
        wait_until("the view", lambda: client.get("/report").status_code == 200)
        for path in ("/nowhere", "/fail", "/report?of=types", "/"):
            client.get(path)
    return busy


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_inspector_fits_into_a_small_picture(reported, visit, theme):
    page = visit(f"{reported.url}/_dev/requests", dark=theme == "dark", viewport={"width": 1120, "height": 1010})
    page.get_by_role("link", name="/report?of=types").first.click()
    page.locator("details.sql summary").last.click()
    page.get_by_role("button", name="EXPLAIN").click()
    page.locator(".plan mark").wait_for()
    page.locator("#detail").evaluate("detail => { detail.scrollTop = 0 }")
    keep(page, f"requests-{theme}")


def keep(page, name):
    shot = page.context.new_cdp_session(page).send("Page.captureScreenshot", {"format": "webp", "quality": 90})
    picture = base64.b64decode(shot["data"])
    assert len(picture) < MAX_BYTES
    folder = ROOT / "docs/images" if MINUTES else PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.webp").write_bytes(picture)
