"""`make bench-reload`: from a save to the first response that shows it, natively and in containers.

Edits a Python file, a template and a stylesheet 20 times each in a copy of the tree, and requests the page
every 5 ms. Prints milliseconds; leaves nothing behind.
"""

import http.client
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep

from slipway.proofs.harness import copy_tree, developing
from slipway.proofs.needs import engine_problem

EDITS = 20
PAUSE = 0.005  # seconds between two requests
TIMEOUT = 30.0  # seconds that an edit may take to be seen
MARK = "edit-0-"


def main() -> None:
    kinds = ["native"] if engine_problem() else ["native", "docker"]
    if len(kinds) == 1:
        print(f"Natively alone: {engine_problem()}", flush=True)
    print(f"{'':8} {'':10} {'median':>8} {'min':>8} {'max':>8}   ms, {EDITS} edits each", flush=True)
    for kind in kinds:
        for name, took in measure(kind).items():
            print(f"{kind:8} {name:10} {figures(took)}", flush=True)


def measure(kind: str, edits: int = EDITS) -> dict[str, list[float]]:
    """Milliseconds of each edit, by what was edited."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        tree = prepared(copy_tree(Path(directory) / "tree"))
        with developing(tree, native=kind == "native") as developed:
            return {
                name: [edit(developed.port, path, tree / file, number) for number in range(1, edits + 1)]
                for name, (path, file) in SUBJECTS.items()
            }


# The path to request, and the file to edit.
SUBJECTS = {
    "Python": ("/bench", "services/web/src/web/app.py"),
    "template": ("/", "services/web/src/web/templates/base.html"),
    "style": ("/static/style.css", "services/web/src/web/static/style.css"),
}


def prepared(tree: Path) -> Path:
    """The tree with a mark in each of the files, which is changed later."""
    view = f'    app.add_url_rule("/bench", view_func=lambda: "{MARK}")\n'
    change(tree / SUBJECTS["Python"][1], "    return app", view)
    change(tree / SUBJECTS["template"][1], "</body>", f"<p>{MARK}</p>")
    change(tree / SUBJECTS["style"][1], "", f"/* {MARK} */\n")
    return tree


def change(path: Path, before: str, text: str) -> None:
    start, end, rest = path.read_text().rpartition(before) if before else ("", "", path.read_text())
    path.write_text(start + text + end + rest)


def edit(port: int, path: str, file: Path, number: int) -> float:
    """Milliseconds from the save to the answer that shows it."""
    text = file.read_text()
    position = text.index("edit-")
    end = text.index("-", position + 5) + 1
    mark = f"edit-{number}-"
    file.write_text(text[:position] + mark + text[end:])
    begun = perf_counter()
    while mark.encode() not in answer(port, path):
        if perf_counter() - begun > TIMEOUT:
            sys.exit(f"{file}: the edit was not served within {TIMEOUT:g} s")
        sleep(PAUSE)
    took = (perf_counter() - begun) * 1000
    sleep(0.3)  # a person's pause: the next edit finds an idle server
    return took


def answer(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("localhost", port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def figures(took: list[float]) -> str:
    show: Callable[[float], str] = "{:8.0f}".format
    return f"{show(statistics.median(took))} {show(min(took))} {show(max(took))}"


if __name__ == "__main__":
    main()
