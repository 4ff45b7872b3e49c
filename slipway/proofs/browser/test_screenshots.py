"""The pictures in the README. `make screenshots` takes them again, after a quarter of an hour of traffic."""

import base64
import math
import os
import time

import httpx
import pytest

from slipway.proofs.browser.conftest import PICTURES
from slipway.proofs.harness import ROOT

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
    shot = page.context.new_cdp_session(page).send("Page.captureScreenshot", {"format": "webp", "quality": 90})
    picture = base64.b64decode(shot["data"])
    assert len(picture) < MAX_BYTES
    folder = ROOT / "docs/images" if MINUTES else PICTURES
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"board-{theme}.webp").write_bytes(picture)
