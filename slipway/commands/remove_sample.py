"""`make remove-sample`: takes the sample out, its code, tests, settings and documents.

Outside of the sample's own files its lines are marked: one that ends in the comment `sample`, and all between
`sample: begin` and `sample: end`.
"""

import re
import shutil
import subprocess
import sys

from slipway.commands import rename, tree
from slipway.commands.rename import SAMPLE

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

# A comment of Python, make and YAML; of Jinja; of Markdown.
COMMENT = r"(?:#|\{#|<!--) sample%s(?: #\}| -->)?"
LINE = re.compile(rf"^.*{COMMENT % ''}$\n?", re.MULTILINE)
BLOCK = re.compile(rf"^.*{COMMENT % ': begin'}$\n(?:.*\n)*?.*{COMMENT % ': end'}$\n?", re.MULTILINE)

KEPT = """
Databases that have had the sample keep its table and its rows, and new migrations apply to them as to new ones.
Once the release without it serves everywhere, the table can go: echo 'DROP TABLE IF EXISTS notes' | make psql"""


def main() -> None:
    tree.refuse_unless_clean("remove-sample")
    if not (tree.ROOT / SAMPLE).is_dir():
        sys.exit("make remove-sample: there is no sample here.")
    with tree.rewriting():
        remove()
        subprocess.run(["make", "--silent", "docs"], cwd=tree.ROOT, check=True)
    print(f"The sample is gone:\n\n{tree.changes()}\n{KEPT}\nLook at it with `git diff`, run `make test`, and commit.")


def remove() -> None:
    for pattern in PATHS:
        for path in tree.ROOT.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    migration = tree.ROOT / MIGRATION
    migration.unlink()
    migration.with_name("20261120_start.py").write_text(START)
    for name in tree.tracked():
        if name.startswith("slipway/"):
            continue  # the kit knows the sample, and is no fork's to edit
        path = tree.ROOT / name
        data = path.read_bytes()
        if b"sample" in data and (text := without_sample(data.decode())) != data.decode():
            path.write_text(text)

    if (tree.ROOT / rename.RECORD).exists():
        record = rename.recorded()
        rename.write_record(record["template"], record["fork"] | {"sample": False})


def without_sample(text: str) -> str:
    """The text without the lines that are marked."""
    text = LINE.sub("", BLOCK.sub("", text))
    return re.sub(r"\n{4,}", "\n\n\n", text).rstrip("\n") + "\n"


if __name__ == "__main__":
    main()
