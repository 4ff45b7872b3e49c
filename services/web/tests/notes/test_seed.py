"""Sample data looks like what people write, and is added once."""

from sqlalchemy import func, select

from chassis.web.database import session
from web.notes import rules, seed
from web.notes.models import Note


def count() -> int:
    return session().scalar(select(func.count()).select_from(Note))


def test_seeding_twice_adds_each_note_once(app):
    with app.app_context():
        assert seed.seed(session()) == len(seed.NOTES)
        assert seed.seed(session()) == 0
        assert count() == len(seed.NOTES)


def test_every_sample_keeps_the_rules_and_the_page_shows_it(app, browser):
    with app.app_context():
        for title, body in seed.NOTES:
            assert rules.NoteFields(title=title, body=body).title == title
        seed.seed(session())
        session().commit()
    assert "東京出張のメモ" in browser.open("/notes").text
    assert "<b>Not bold" not in browser.open("/notes").html
