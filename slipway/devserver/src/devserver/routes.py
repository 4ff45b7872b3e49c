"""`python -m devserver.routes`: every route of the app, by its path."""

import importlib
import os

from flask import Flask

from devserver import verbs


def table(app: Flask) -> list[tuple[str, str, str]]:
    """Methods, path and endpoint; HEAD and OPTIONS, which Flask adds, are left out."""
    rows = (
        (" ".join(sorted(rule.methods - {"HEAD", "OPTIONS"})) or "any", rule.rule, rule.endpoint)
        for rule in app.url_map.iter_rules()
    )
    return sorted(rows, key=lambda row: (row[1], row[0]))


def main(service: str) -> None:
    verbs.settings("make routes")
    rows = table(importlib.import_module(f"{service}.app").create_app())
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for methods, path, endpoint in rows:
        print(f"{methods:{widths[0]}}  {path:{widths[1]}}  {endpoint}")


if __name__ == "__main__":
    main(os.environ["SERVICE"])
