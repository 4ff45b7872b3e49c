"""`make lint`: what it reads."""

from slipway.commands import lint


def test_types_are_checked_in_every_source_folder_that_has_python_and_in_no_other():
    names = [
        "libs/money/src/money/__init__.py",
        "libs/gone/README.md",
        "services/web/src/web/app.py",
        "services/web/src/web/static/style.css",
        "services/web/tests/test_web.py",
        "slipway/templates/service/src/app.py.jinja",
    ]
    assert lint.sources(names) == ["libs/money/src", "services/web/src"]
