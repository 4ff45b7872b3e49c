"""Sample notes for development, `flask seed`: short and long ones, in several scripts, as people write them."""

from datetime import UTC, datetime, timedelta

import click
from flask.cli import with_appcontext
from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.web.database import session
from web.notes.models import Note

# ruff: noqa: RUF001 - Cyrillic letters are meant

# Title and body, the newest first.
NOTES = (
    ("Buy oat milk", ""),
    ("Stand-up, Thursday", "Ana: the import is merged.\nJoão: blocked by the mail provider, calls them today.\n"
     "Me: reviews, then the search page."),
    ("Wi-Fi in the small meeting room", "Network: guests. The password hangs behind the door."),
    ("Kurz notiert: Straßenfest", "Am 12. Juni, ab 15 Uhr. Wir brauchen noch drei Bänke und jemanden mit Grill. "
     "Übrigens: Müller bringt Kuchen."),
    ("Restore rehearsal", "1. Newest dump from the other site.\n2. Empty machine, `make restore`.\n"
     "3. Compare the number of rows with the morning's report.\n\nTook 11 minutes, 9 of them the download. "
     "Next time: write down who has the key."),
    ("東京出張のメモ", "月曜日 9:30 新幹線。ホテルは駅から徒歩五分。\n名刺を忘れないこと。"),
    ("Idea", "What if the list remembered where I was?"),
    ("Books lent", "Ursula K. Le Guin, The Dispossessed: to Priya, in March\n"
     "W. Richard Stevens, Advanced Programming in the UNIX Environment: to Tomasz; ask again in autumn"),
    ("Заметка о встрече", "Договорились встретиться в пятницу в 18:00 у входа в парк."),
    ("Café à essayer", "« Le Petit Œuf », rue des Écoles. Fermé le lundi. On m'a dit du bien de la tarte au citron."),
    ("Printer, again", "It prints once the paper tray is out for ten seconds. No idea why."),
    ("Query of the week", "SELECT customer, count(*)\n  FROM orders\n WHERE placed_at > now() - interval '7 days'\n"
     " GROUP BY customer\nHAVING count(*) > 3\n ORDER BY 2 DESC;"),
    ("ملاحظات الاجتماع", "تم الاتفاق على موعد التسليم يوم الأحد القادم."),
    ("🌱 Balcony", "Tomatoes: water every evening 🍅\nBasil: not so much\nThe cat: keep away 🐈‍⬛"),
    ("A title that was written in one go, on the phone and without looking up once, so as to get all of it down "
     "before it was forgotten what the plumber had said about the valve", "He comes on Tuesday."),
    ("Why we left the old scheduler", "It ran jobs at most once, except when the clock changed: then it ran some "
     "of them twice, others not at all. We had worked around it in four places, each in its own way, and each time "
     "a colleague asked why.\n\nWhat we do now: a job says when it ran last, in the row that it works on, and takes "
     "that row's lock while it does. A second one has nothing to do. That is slower by a few milliseconds, and "
     "has needed no explanation since.\n\nWhat we lost: the page with the green dots. It was never asked for."),
    ("<b>Not bold</b> & \"quoted\"", "Angle brackets are text here: <script>alert('no')</script>, 3 < 5, R&D."),
    ("Room 4.12, key 0731", "Returned on Friday."),
    ("Packing list", "- passport\n- charger, and the adapter for the charger\n- rain jacket\n- the other book"),
    ("Γνωμικό", "Μηδὲν ἄγαν."),
)  # fmt: skip
APART = timedelta(hours=31)


@click.command("seed")
@with_appcontext
def command() -> None:
    """Add the sample notes that are not there yet."""
    added = seed(session())
    session().commit()
    click.echo(f"{added} notes added" if added else "all notes are there already")


def seed(into: Session) -> int:
    """Adds the notes whose title is not there yet, and returns how many it added."""
    there = set(into.scalars(select(Note.title)))
    now = datetime.now(UTC)
    added = []
    for number, (title, body) in enumerate(NOTES):
        if title not in there:
            moment = now - number * APART
            added.append(Note(title=title, body=body, created_at=moment, updated_at=moment))
    into.add_all(added)
    return len(added)
