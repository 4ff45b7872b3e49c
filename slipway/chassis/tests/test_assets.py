"""A release's static files, published beside the former ones'."""

import gzip
import os
import time

import pytest
from flask import Flask

from chassis.web import assets, publish

DAY = 24 * 3600


@pytest.fixture
def folder(tmp_path):
    """A release's static files."""
    (tmp_path / "static/flags").mkdir(parents=True)
    (tmp_path / "static/style.css").write_text("body { color: red }\n" * 100)
    (tmp_path / "static/flags/n.svg").write_text("<svg/>")
    return tmp_path / "static"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "published"


def names(target):
    return {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}


def release(folder, text):
    """Makes another release, with another stylesheet, and returns the stylesheet's hashed name."""
    (folder / "style.css").write_text(text)
    os.utime(folder / "style.css", ns=(0, int.from_bytes(text.encode())))
    return publish.hashed(folder, "style.css")


def days_pass(target, days):
    for path in filter(lambda path: path.is_file(), target.rglob("*")):
        seen = path.stat().st_mtime - days * DAY
        os.utime(path, (seen, seen))


def test_files_are_named_by_their_contents_and_compressed_where_that_is_smaller(folder, target):
    publish.publish({"": folder}, target)
    style, flag = publish.hashed(folder, "style.css"), publish.hashed(folder, "flags/n.svg")
    assert {style, f"{style}.gz", flag} <= names(target)
    assert f"{flag}.gz" not in names(target)
    assert gzip.decompress((target / f"{style}.gz").read_bytes()) == (folder / "style.css").read_bytes()


def test_a_second_publication_writes_nothing(folder, target):
    assert publish.publish({"": folder}, target) == 2
    before = names(target)
    assert publish.publish({"": folder}, target) == 0
    assert names(target) == before


def test_the_chassiss_own_files_lie_beside_the_services(folder, target):
    publish.publish({"": folder, "chassis": publish.OWN}, target)
    assert {f"chassis/{publish.hashed(publish.OWN, 'chassis.css')}", publish.hashed(folder, "style.css")} <= names(
        target
    )


def test_the_former_releases_files_stay_however_long_it_served(folder, target):
    old = release(folder, "old")
    publish.publish({"": folder}, target)
    days_pass(target, 90)
    new = release(folder, "new")
    publish.publish({"": folder}, target)
    assert {old, new} <= names(target)


def test_a_file_goes_a_month_after_its_release_was_replaced(folder, target):
    releases = [release(folder, "one")]
    publish.publish({"": folder}, target)
    for text in ("two", "three"):
        releases.append(release(folder, text))
        days_pass(target, 20)
        publish.publish({"": folder}, target)
    assert set(releases) <= names(target)
    days_pass(target, 20)
    publish.publish({"": folder}, target)
    assert releases[0] not in names(target)
    assert set(releases[1:]) <= names(target)


def test_only_files_of_the_folder_have_a_digest(folder, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    with Flask("sample", static_folder=folder).app_context():
        assert assets._digest("static", "style.css")
        for filename in ("../secret.txt", "flags/../../secret.txt", "/etc/passwd", "flags", "none.css", "a\0b"):
            assert assets._digest("static", filename) is None


def test_a_published_file_is_as_old_as_its_last_publication(folder, target):
    publish.publish({"": folder}, target)
    days_pass(target, 5)
    publish.publish({"": folder}, target)
    assert all(time.time() - (target / name).stat().st_mtime < DAY for name in names(target))
