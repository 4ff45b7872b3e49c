"""The chassis's groups: each imports only from those before it, and no service carries what it does not use."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import chassis

ROOT = Path(chassis.__file__).parent
GROUPS = re.findall(r"^(\w+) {2,}\S", chassis.__doc__, re.MULTILINE)
MODULES = [path for path in ROOT.rglob("*.py") if path.parent != ROOT]


def imported(path: Path) -> set[str]:
    """The groups that a module imports from, anywhere in it."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    named = [f"{node.module}.{name.name}" for node in found for name in node.names if node.module]
    return {name.split(".")[1] for name in named if name.startswith("chassis.")}


def test_the_groups_are_those_that_the_chassis_names_and_each_says_what_it_is():
    assert sorted(GROUPS) == sorted(path.name for path in ROOT.iterdir() if (path / "__init__.py").exists())
    for group in GROUPS:
        assert ast.get_docstring(ast.parse((ROOT / group / "__init__.py").read_text())), group


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    group = path.relative_to(ROOT).parts[0]
    later = set(GROUPS[GROUPS.index(group) + 1 :])
    assert imported(path) & later == set()


FLASK = """
from flask import Flask
from chassis.settings import Settings
from chassis.web.setup import setup
class Plain(Settings):
    uses_database = False
setup(Flask("plain"), Plain(secret_key="key"))
"""
ASGI = """
from chassis.settings import Settings
from chassis.web.asgi import Chassis
class Plain(Settings):
    uses_database = uses_secret_key = False
Chassis(None, Plain())
"""
SANIC = ASGI.replace(
    "Chassis(None, Plain())",
    """
from chassis.web.sanic import setup
from sanic import Sanic
setup(Sanic("plain", configure_logging=False), Plain())
""",
)
FASTAPI = ASGI.replace(
    "Chassis(None, Plain())",
    """
from chassis.web.fastapi import setup
from fastapi import FastAPI
setup(FastAPI(), Plain())
""",
)
FLASK_OR_DATABASE = {"flask", "werkzeug", "jinja2", "sqlalchemy", "psycopg2", "alembic"}


@pytest.mark.parametrize(
    ("app", "foreign"),
    [
        pytest.param(FLASK, {"sqlalchemy", "psycopg2", "alembic", "sanic", "fastapi"}, id="without a database"),
        pytest.param(ASGI, FLASK_OR_DATABASE, id="asgi"),
        pytest.param(SANIC, FLASK_OR_DATABASE | {"fastapi", "starlette", "pydantic"}, id="sanic"),
        pytest.param(FASTAPI, FLASK_OR_DATABASE | {"sanic", "uvicorn"}, id="fastapi"),
    ],
)
def test_a_service_imports_nothing_that_it_does_not_use(app, foreign):
    serve = "import chassis.server.gunicorn, chassis.process.release, chassis.process.worker, sys"
    code = f"{serve}\n{app}\nprint(*{foreign!r} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert (run.stdout.strip(), run.stderr) == ("", "")
