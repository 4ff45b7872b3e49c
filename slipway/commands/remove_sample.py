"""`make remove-sample`: removes the sample: its code, tests, settings and documents.

Outside of the sample's own files its lines are marked: those that end in the comment `sample`, and all between
`sample: begin` and `sample: end`.
"""

import re
import shutil
import subprocess

from slipway.commands import ROOT, rename
from slipway.commands.rename import SAMPLE
from slipway.commands.shared import git
from slipway.commands.shared.stop import Stop

# Its own files and folders.
PATHS = (
    SAMPLE,
    "services/web/tests/notes",
)

MIGRATION = "services/web/migrations/versions/20261120_notes.py"
START = '''"""Where the migrations start. A database that has had the sample's tables is at this revision, too."""

revision = "20261120"
down_revision = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
'''

# Comments of Python, make and YAML; of Jinja; of Markdown.
COMMENT = r"(?:#|\{#|<!--) sample%s(?: #\}| -->)?"
LINE = re.compile(rf"^.*{COMMENT % ''}$\n?", re.MULTILINE)
BLOCK = re.compile(rf"^.*{COMMENT % ': begin'}$\n(?:.*\n)*?.*{COMMENT % ': end'}$\n?", re.MULTILINE)

KEPT = """
Databases that have had the sample keep its table and its rows, and new migrations apply to them as to new ones.
Once the release without it serves everywhere, the table can go: echo 'DROP TABLE IF EXISTS notes' | make psql"""


def remove_sample() -> None:
    """Removes the sample: its code, tests, settings and documents."""
    git.refuse_unless_clean()
    if not (ROOT / SAMPLE).is_dir():
        raise Stop("there is no sample here")
    with git.rewriting():
        remove()
        subprocess.run(["make", "--silent", "docs"], cwd=ROOT, check=True)
    print(f"The sample is gone:\n\n{git.changes()}\n{KEPT}\nLook at it with `git diff`, run `make test`, and commit.")


def remove() -> None:
    for pattern in PATHS:
        for path in ROOT.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    migration = ROOT / MIGRATION
    migration.unlink()
    migration.with_name("20261120_start.py").write_text(START)
    for name in git.tracked():
        if name.startswith("slipway/"):
            continue  # the kit mentions the sample, and forks do not edit it
        path = ROOT / name
        data = path.read_bytes()
        if b"sample" in data and (text := without_sample(data.decode())) != data.decode():
            path.write_text(text)

    if (ROOT / rename.RECORD).exists():
        record = rename.recorded()
        rename.write_record(record["template"], record["fork"] | {"sample": False})


def without_sample(text: str) -> str:
    """The text without the marked lines."""
    text = LINE.sub("", BLOCK.sub("", text))
    return re.sub(r"\n{4,}", "\n\n\n", text).rstrip("\n") + "\n"
