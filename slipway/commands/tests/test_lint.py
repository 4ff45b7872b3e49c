"""`make lint`: what it reads."""

from slipway.commands import lint
from slipway.commands.shared import prose


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


def test_what_a_generator_of_npms_wrote_is_not_read_for_its_prose(tmp_path):
    names = ["services/shop/README.md", "services/shop/ui/README.md"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("word " * 40)
    assert list(prose.problems(tmp_path, names)) == ["services/shop/README.md:1: 200 characters, 110 is the most"]
