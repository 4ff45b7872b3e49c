"""The parts of the development server, each alone; slipway/proofs/stack/test_dev.py tests it whole."""

import io
import os
import select
import selectors
import time
from time import monotonic
from types import SimpleNamespace

import pytest
import sqlalchemy
from flask import Flask, Response, request
from gunicorn.app.wsgiapp import WSGIApplication
from werkzeug.test import Client

from chassis.db.revisions import Revisions
from chassis.observe import request_id
from chassis.web.prefix import Prefix
from devserver import database, debugger, dependencies, layer, libraries, live, page, sources, sql, waiting
from devserver.inspector import Kept
from devserver.state import Stamp, State


@pytest.fixture
def tree(tmp_path):
    """A repository with one service and one library."""
    for name in ("services/web/src/web/app.py", "services/web/tests/test_app.py", "libs/kit/src/kit/it.py", "uv.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("services/web/src/web/new.py", "code"),
        ("services/web/migrations/versions/1.py", "code"),
        ("services/web/gunicorn.conf.py", "code"),
        ("libs/kit/src/kit/__init__.py", "code"),
        (".env", "code"),
        ("services/web/src/web/templates/_part.html", "page"),
        ("services/web/src/web/templates/mail.txt", "page"),
        ("services/web/src/web/static/logo.webp", "page"),
        ("services/web/src/web/static/app.js", "page"),
        ("services/web/src/web/static/style.css", "style"),
        ("services/web/pyproject.toml", "dependencies"),
        ("uv.lock", "dependencies"),
        ("slipway/devserver/src/devserver/live.py", "server"),
        ("services/web/tests/test_new.py", None),
        ("services/web/src/web/.app.py.swp", None),
        ("services/web/src/web/app.py~", None),
        ("services/web/src/web/__pycache__/app.pyc", None),
        ("services/web/ui/node_modules/x/index.js", None),
        ("services/other/src/other/app.py", None),
        ("jottings.txt", None),
    ],
)
def test_what_a_saved_file_wants(tree, name, kind):
    watched = sources.Sources(tree, tree / "services/web")
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("2")
    changes = watched.changes()
    assert changes.get(name) == kind
    assert set(changes) == ({name} if kind else set())
    assert watched.changes() == {}


def test_a_file_replaced_by_a_rename_within_one_tick_of_the_clock_is_a_change(tree):
    watched = sources.Sources(tree, tree / "services/web")
    path = tree / "services/web/src/web/app.py"
    stat = path.stat()
    other = path.with_suffix(".tmp")
    other.write_text("2")
    other.replace(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert watched.changes() == {"services/web/src/web/app.py": "code"}


def test_inotify_tells_of_a_save_in_a_folder_that_is_new_too(tree):
    watched, told = sources.Sources(tree, tree / "services/web"), sources.Inotify()
    try:
        told.watch(watched.folders)
        folder = tree / "services/web/src/web/new"
        folder.mkdir()
        assert readable(told)
        told.drain()
        watched.changes()
        told.watch(watched.folders)
        (folder / "a.py").write_text("2")
        assert readable(told)
    finally:
        told.close()


def readable(told):
    return bool(select.select([told.descriptor], [], [], 2)[0])


def test_unchanged_sources_are_compiled_once_and_broken_ones_left_to_the_import(tree):
    compiled, path = libraries.Compiled(), str(tree / "services/web/src/web/app.py")
    compiled.update_from({path: (1, 1, 1)})
    first = compiled[path]
    compiled.update_from({path: (1, 1, 1)})
    assert compiled[path] is first
    (tree / "services/web/src/web/app.py").write_text("def oh(:")
    compiled.update_from({path: (2, 1, 1)})
    assert path not in compiled


def test_dependencies_differ_by_what_is_needed_not_by_the_text(tmp_path):
    declared = tmp_path / "pyproject.toml"
    declared.write_text('[project]\ndependencies = ["flask"]\n')
    known = dependencies.Declared(tmp_path)
    declared.write_text('# new\n[project]\ndependencies = [ "flask" ]\n[tool.ruff]\n')
    assert known.notices() == []
    declared.write_text('[project]\ndependencies = ["flask", "msgspec"]\n')
    assert "make lock" in known.notices()[0]
    (tmp_path / "uv.lock").write_text("now")
    assert "make lock" not in known.notices()[0]
    declared.write_text("half a [file")
    assert "uv.lock" in known.notices()[0]


def test_a_database_at_another_revision_is_named_with_what_to_do(tmp_path):
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions/1.py").write_text('revision = "one"\ndown_revision = None\n')
    (tmp_path / "versions/2.py").write_text('revision = "two"\ndown_revision = "one"\n')
    schema = Revisions(tmp_path)
    assert database.problem(schema, {"two"}) == ""
    for current in ({"one"}, set()):
        assert "(two): run `make migrate`" in database.problem(schema, current)
    assert "`make reset-db`" in database.problem(schema, {"three"})


def test_inotify_is_given_up_after_the_second_save_that_it_did_not_tell_of(tree):
    followed = []
    watched = sources.Sources(tree, tree / "services/web")
    watch = waiting.Watch(watched, selectors.DefaultSelector(), "auto", followed.append)
    watch.begin()
    watch.settled = True
    for number, told in enumerate([False, True, False, False]):
        assert watch.inotify is not None
        (tree / "services/web/src/web/app.py").write_text(f"saved = {number}")
        watch.due = 0.0 if told else monotonic()
        watch.look()
    assert watch.inotify is None
    assert len(followed) == 4


def test_stamps_only_grow_from_one_start_to_the_next_too():
    state = State()
    first = state.read()
    assert state.grow("style") == first._replace(style=first.style + 1)
    assert first.code >= int(time.time()) - 1


# --- The layer


@pytest.fixture
def app(tmp_path):
    """A small app in the layer, as `make dev` wraps it."""
    app = Flask("sample", root_path=str(tmp_path))
    app.config["PROPAGATE_EXCEPTIONS"] = False
    parent = SimpleNamespace(root=tmp_path, service=tmp_path, state=State(), theirs=None, notices={}, requests=Kept())

    @app.get("/page")
    def page():
        return "<!doctype html><html><body>Hi</body></html>", {"ETag": "1"}

    @app.get("/fragment")
    def fragment():
        return "<li>one</li>"

    @app.get("/stream")
    def stream():
        return Response((part for part in ("<!doctype html><html><body>", "</body></html>")), mimetype="text/html")

    @app.get("/download")
    def download():
        return "<!doctype html><html></html>", {"Content-Disposition": "attachment"}

    @app.get("/file")
    def file():
        return "<!doctype html><html></html>", {"Content-Disposition": "inline; filename=index.html"}

    @app.get("/json")
    def json():
        return {"html": "</body>"}

    @app.post("/fail")
    def fail():
        form, unlucky = request.form, "a value of mine"
        api_key = "k3y"
        raise ValueError(f"no {len(form)} {len(unlucky)} {len(api_key)}")

    request_id.init_app(app)
    app.wsgi_app = layer.Layer(app.wsgi_app, 7, parent, lambda **message: None)
    return app


def test_a_page_gets_the_script_and_is_not_kept(app):
    answer = app.test_client().get("/page")
    assert b'data-stamp="7.' in answer.data
    assert answer.data.endswith(b"defer></script></body></html>")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers
    assert int(answer.headers["Content-Length"]) == len(answer.data)


def test_a_page_that_is_sent_as_a_file_gets_it_too(app):
    assert b'data-stamp="7.' in app.test_client().get("/file").data


@pytest.mark.parametrize("path", ["/fragment", "/stream", "/download", "/json"])
def test_what_is_no_whole_page_stays_as_it_is(app, path):
    answer = app.test_client().get(path)
    assert b"_dev/" not in answer.data
    assert "app;dur=" in answer.headers["Server-Timing"]


def test_what_a_script_fetches_and_head_stay_as_they_are(app):
    assert b"_dev/" not in app.test_client().get("/page", headers={"Sec-Fetch-Dest": "empty"}).data
    assert app.test_client().head("/page").headers["ETag"] == "1"


def test_the_script_is_a_file_of_the_same_origin(app):
    answer = app.test_client().get("/_dev/live.js")
    assert answer.content_type.startswith("text/javascript")
    assert app.test_client().get("/_dev/else").status_code == 404


def test_a_script_goes_before_the_last_end_of_a_body():
    body = live.inject(b"<html><body><pre>&lt;/body></body></pre></BODY ></html>", Stamp(1, 2, 3), "GET")
    assert body.endswith(b'data-stamp="1.2.3" data-method="GET" defer></script></BODY ></html>')


HTML = {"Accept": "text/html"}


def test_an_error_shows_the_form_with_its_secrets_masked(app):
    form = {"title": "<b>", "password": "hunter2", "csrf_token": "t0ken"}
    headers = {**HTML, "Cookie": "s3cret=1", "Authorization": "Basic b3BlbiE="}
    answer = app.test_client().post("/fail", data=form, headers=headers)
    assert answer.status_code == 500
    assert "<b>ValueError</b>: no 3 15 3" in answer.text
    assert "&lt;b&gt;" in answer.text
    assert 'data-method="POST"' in answer.text
    for secret in ("hunter2", "t0ken", "s3cret", "b3BlbiE="):
        assert secret not in answer.text
    assert answer.headers["X-Request-ID"] in answer.text


@pytest.mark.parametrize(("accept", "kind"), [("*/*", "text/plain"), ("text/html", "text/html"), ("", "text/plain")])
def test_an_error_is_text_for_who_asks_for_no_html(app, accept, kind):
    answer = app.test_client().post("/fail", headers={"Accept": accept})
    assert answer.content_type.startswith(kind)
    assert "ValueError" in answer.text


def test_an_error_of_a_service_below_a_path_is_a_page_too(app):
    app.wsgi_app.app = Prefix(app.wsgi_app.app, "/shop")
    assert "ValueError" in app.test_client().post("/shop/fail", headers=HTML).text


def test_an_error_outside_the_apps_own_care_is_a_page_too(app, tmp_path):
    def raises(environ, start_response):
        raise RuntimeError("in a middleware")

    parent = SimpleNamespace(root=tmp_path, service=tmp_path, state=State(), theirs=None, notices={}, requests=Kept())
    app.wsgi_app = layer.Layer(raises, 7, parent, lambda **message: None)
    answer = app.test_client().get("/", headers=HTML)
    assert answer.status_code == 500
    assert "in a middleware" in answer.text


def test_an_app_that_cannot_start_under_an_editors_debugger_is_a_page_too(monkeypatch, tmp_path):
    from devserver import editor  # and with it debugpy

    def fails(self):
        raise ImportError("no module of mine")

    (tmp_path / "services/web").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "services/web")
    monkeypatch.setattr(WSGIApplication, "load", fails)
    answer = Client(editor.Server.load(object.__new__(editor.Server))).get("/")
    assert answer.status_code == 500
    assert "no module of mine" in answer.text


def test_frames_are_ours_first_and_of_each_cause(tmp_path):
    path = tmp_path / "services/web/src/web/it.py"
    path.parent.mkdir(parents=True)
    source = (
        "def run(secret_word, value):",
        "    try:",
        "        int(value)",
        "    except ValueError:",
        "        {}['x']",
    )
    path.write_text("\n".join(source))
    names = {}
    exec(compile(path.read_text(), path, "exec"), names)
    with pytest.raises(KeyError) as raised:
        names["run"]("hidden", "no number")
    ours = [frame for frame in page.frames(tmp_path, raised.value) if frame.ours]
    assert [frame.number for frame in ours] == [5, 3]
    assert ours[0].place == "services/web/src/web/it.py"
    assert [line.number for line in ours[0].lines if line.marked] == [5]
    assert ours[0].variables["value"] == "'no number'"
    assert "hidden" not in ours[0].variables.values()


def test_a_value_whose_repr_fails_is_shown_all_the_same():
    class Bad:
        def __repr__(self):
            raise ZeroDivisionError

    class array:  # reprlib goes by the name, and finds no typecode
        pass

    assert page.represented(Bad()).startswith("<Bad instance")
    assert page.represented(array()) == "<array, whose repr raised AttributeError>"


def test_statements_are_counted_with_their_time_and_repetitions():
    statements = sql.begin()
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        for number in range(3):
            connection.execute(sqlalchemy.text("SELECT :n"), {"n": number})
        with pytest.raises(sqlalchemy.exc.OperationalError):
            connection.execute(sqlalchemy.text("SELECT nothing FROM nowhere"))
    assert sql.repeated(statements) == {"SELECT ?": 3}
    assert len(statements) == 4
    assert sql.summary(statements).endswith("one 3 times")


# --- The debugger


@pytest.fixture
def in_container(tmp_path):
    """The root of a container whose bridge's gateway is 172.18.0.1."""
    (tmp_path / ".dockerenv").touch()
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").write_text(
        "Iface\tDestination\tGateway \tFlags\neth0\t00000000\t010012AC\t0003\neth0\t000012AC\t00000000\t0001\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("peer", "host", "more", "allowed"),
    [
        ("127.0.0.1", "localhost:8000", {}, True),
        ("127.0.0.1", "127.0.0.1:8000", {}, True),
        ("127.0.0.1", "web.localhost", {}, True),
        ("127.0.0.1", "evil.example", {}, False),
        ("127.0.0.1", "localhost.evil.example", {}, False),
        ("127.0.0.1", "", {}, False),
        ("172.18.0.1", "localhost:8000", {}, True),
        ("172.18.0.5", "localhost:8000", {}, False),
        ("192.168.1.7", "localhost:8000", {}, False),
        ("", "localhost:8000", {}, False),
        ("127.0.0.1", "localhost:8000", {"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, False),
        ("127.0.0.1", "localhost:8000", {"HTTP_SEC_FETCH_SITE": "cross-site"}, False),
    ],
)
def test_the_debugger_is_for_this_machine_alone(in_container, peer, host, more, allowed):
    environ = {"REMOTE_ADDR": peer, "HTTP_HOST": host, "wsgi.input": io.BytesIO(), **more}
    assert debugger.Debugger(in_container).allows(environ) is allowed


def test_outside_a_container_a_gateway_is_somebody_elses(in_container):
    (in_container / ".dockerenv").unlink()
    assert debugger.gateway(in_container) is None
