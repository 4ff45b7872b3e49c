"""The development loop, with Docker and without: the same page, the same reload, the same errors."""

import json
import os
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import monotonic

import httpx
import pytest

from slipway.proofs.harness import Stack, copy_tree, developing, unique, wait_until, with_probe

VIEWS = """
    @app.get("/word")
    def word():
        return "first"

    @app.get("/slow")
    def slow():
        import time
        from pathlib import Path

        Path("slow.begun").touch()
        time.sleep(5)
        return "old"

    @app.get("/loop")
    def loop():
        import sqlalchemy

        from chassis.web.database import session

        password = "hunter2"
        for number in range(4):
            session().execute(sqlalchemy.text("SELECT :n"), {"n": number})
        raise LookupError("<nothing here>")

    return app"""


@pytest.fixture(
    scope="module",
    params=[pytest.param("docker", marks=pytest.mark.containers), "native"],
)
def dev(request, tmp_path_factory):
    """`make dev` in a fresh checkout, with a few additional views."""
    directory = with_probe(copy_tree(tmp_path_factory.mktemp("dev")))
    edited(directory / APP, "\n    return app", VIEWS)
    with developing(directory, native=request.param == "native") as developed:
        yield developed


APP = "services/web/src/web/app.py"


def edited(path, old, new):
    """Saves the file with the last `old` replaced; returns what it was before."""
    text = path.read_text()
    assert old in text
    path.write_text(new.join(text.rsplit(old, 1)))
    return text


@contextmanager
def saved(path, text):
    """Temporarily gives the file other contents."""
    former = path.read_text() if path.exists() else None
    path.write_text(text)
    try:
        yield former
    finally:
        if former is None:
            path.unlink()
        else:
            path.write_text(former)


def test_the_page_and_a_working_database(dev):
    assert "text/html" in dev.get().headers["content-type"]
    made = httpx.post(dev.url + "/probe/rows", json={"title": "From dev"}, trust_env=False)
    assert made.status_code == 201
    assert dev.get(made.headers["location"]).json()["title"] == "From dev"


def test_an_edited_template_or_style_is_served_at_the_next_request(dev):
    template = dev.stack.directory / "services/web/src/web/templates/base.html"
    style = dev.stack.directory / "services/web/src/web/static/style.css"
    edited(template, "</body>", "<p>Edited just now</p></body>")
    assert "Edited just now" in dev.get().text
    style.write_text(style.read_text() + "/* Edited just now */")
    assert "Edited just now" in dev.get("/static/style.css").text


WRONG = {
    "an import error": "\nimport a_module_that_is_not_there\n",
    "a syntax error": "\ndef oh(:\n",
    "an exception": "\nraise SystemExit(3)\n",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_code_that_cannot_start_is_a_page_with_the_line_until_the_next_good_save(dev, text):
    source = dev.stack.directory / APP
    with saved(source, source.read_text() + text):
        page = wait_until("the page", lambda: (r := dev.get(headers=HTML)).status_code == 500 and r).text
        assert f"<b>{APP}</b>, line " in page
        assert '<li class="marked">' in page
        assert text.split()[-1].split("(")[0] in page
        plain = dev.get("/any/path", headers={"Accept": "*/*"})
        assert plain.headers["content-type"] == "text/plain; charset=utf-8"
        assert "Traceback" in plain.text or "SyntaxError" in plain.text
    wait_until("the app again", lambda: dev.get().status_code == 200)


HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize("file", ["slipway/chassis/src/chassis/server/gunicorn.py", "services/web/gunicorn.conf.py"])
def test_what_the_server_itself_is_made_of_may_break_and_be_mended_too(dev, file):
    source = dev.stack.directory / file
    with saved(source, "from nowhere import nothing\n"):
        page = wait_until("the page", lambda: (r := dev.get(headers=HTML)).status_code == 500 and r).text
        assert f"<b>{file}</b>, line <b>1" in page.replace("line 1", "line <b>1")
    wait_until("the app again", lambda: dev.get().status_code == 200)


def test_a_server_that_ends_by_itself_is_a_page_until_the_next_save(dev):
    source = dev.stack.directory / "services/web/gunicorn.conf.py"
    with saved(source, source.read_text() + "\nimport os\nos._exit(7)\n"):
        page = wait_until("the page", lambda: (r := dev.get(headers=HTML)).status_code == 500 and r).text
        assert "The server ended by itself, with status 7." in page
    wait_until("the app again", lambda: dev.get().status_code == 200)


def test_wrong_settings_are_a_page_that_names_each_of_them(dev):
    with saved(dev.stack.directory / ".env", "WEB_THREADS=none\nDATABASE_PORT=0\n"):
        page = wait_until("the page", lambda: (r := dev.get(headers=HTML)).status_code == 500 and r).text
        assert "<li>WEB_THREADS must be a whole number" in page
        assert "<li>DATABASE_PORT must be" in page
    wait_until("the app again", lambda: dev.get().status_code == 200)


def test_a_save_in_the_chassis_counts_and_so_does_one_made_while_the_app_loads(dev):
    source = dev.stack.directory / "slipway/chassis/src/chassis/web/health.py"
    good = source.read_text()
    for word in ("once", "twice", "thrice"):  # without waiting for the reload in between
        source.write_text(good.replace('status="alive"', f'status="{word}"'))
    wait_until("the last save", lambda: dev.get("/health/live").json()["status"] == "thrice")
    source.write_text(good)
    wait_until("the good one", lambda: dev.get("/health/live").json()["status"] == "alive")


def test_a_changed_dotenv_counts_and_any_other_file_beside_it_does_not(dev):
    forwarded = {"X-Forwarded-Host": "shop.example"}
    assert "shop.example" not in dev.get("/probe/url", headers=forwarded).text
    (dev.stack.directory / "scratch.txt").write_text("no setting")
    with saved(dev.stack.directory / ".env", "TRUSTED_PROXIES=1\n"):
        wait_until("trust", lambda: "shop.example" in dev.get("/probe/url", headers=forwarded).text)
    assert ".env changed" in dev.log
    assert "scratch.txt" not in dev.log


def test_no_request_fails_while_the_code_is_reloaded_under_load(dev):
    source, over = dev.stack.directory / APP, threading.Event()

    def ask():
        answers = []
        with httpx.Client(trust_env=False, timeout=20) as client:  # it keeps its connection if it may
            while not over.is_set():
                response = client.get(dev.url + "/word")
                answers.append((response.status_code, response.text))
        return answers

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for number in range(5):
            word = f"first{number}"
            edited(source, 'return "first', f'return "{word}')
            wait_until("the save", partial(lambda word: dev.get("/word").text.startswith(word), word))
        over.set()
        answers = [answer for each in asking for answer in each.result()]
    assert {status for status, _ in answers} == {200}
    assert len({text for _, text in answers}) > 3


def test_a_slow_request_finishes_on_the_old_code_and_holds_nobody_up(dev):
    source = dev.stack.directory / APP
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(dev.get, "/slow")
        wait_until("the slow one under way", (dev.stack.directory / "services/web/slow.begun").exists)
        begun = monotonic()
        good = edited(source, 'return "old"', 'return "new"  # edited')
        edited(source, "first", "second")
        wait_until("the new code", lambda: "second" in dev.get("/word").text)
        assert not slow.done()
        assert monotonic() - begun < 4
        assert slow.result().text == "old"
    source.write_text(good)


def test_an_exception_in_a_view_shows_code_request_id_and_the_sql_with_its_repetitions(dev):
    page = dev.get("/loop?a=1", headers={**HTML, "Cookie": "session=s3cret", "X-Request-ID": "abcdef0123456789"})
    assert page.status_code == 500
    assert "<b>LookupError</b>: &lt;nothing here&gt;" in page.text
    assert f"<b>{APP}</b>, line" in page.text
    assert "/loop?a=1" in page.text
    assert page.headers["x-request-id"] == "abcdef0123456789"
    assert "abcdef0123456789" in page.text
    assert "4 times the same statement" in page.text
    assert "s3cret" not in page.text
    assert "<td>&#39;hunter2&#39;</td>" not in page.text
    plain = dev.get("/loop")
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert plain.text.startswith("Traceback")
    assert "SELECT" in plain.text
    assert 'desc="4 statements"' in plain.headers["server-timing"]
    program = dev.get("/loop", headers={"Accept": "application/json"})
    assert program.headers["content-type"] == "application/problem+json"


def test_the_debugger_opens_for_this_machine_alone(dev):
    answer = dev.get("/loop", headers=HTML)
    link = f"/_dev/debugger?id={answer.headers['x-request-id']}"
    assert f'href="{link}"' in answer.text
    page = dev.get(link)
    assert page.status_code == 200
    assert "EVALEX = true" in page.text
    assert "EVALEX_TRUSTED = false" in page.text  # not before the PIN
    for header in ({"Host": "rebound.example"}, {"X-Forwarded-For": "127.0.0.1"}, {"Sec-Fetch-Site": "cross-site"}):
        assert dev.get(link, headers=header).status_code == 404
        assert "_dev/debugger" not in dev.get("/loop", headers={**HTML, **header}).text


@pytest.mark.containers
def test_the_debugger_and_the_inspector_open_for_no_other_container(dev):
    if "DOCKER" in dev.stack.environment:
        return  # natively the port is on the loopback only: there is no other address to come from
    links = [f"/_dev/debugger?id={dev.get('/loop', headers=HTML).headers['x-request-id']}", "/_dev/requests"]
    name = dev.stack.container("web")["Name"].strip("/")
    script = (
        "import socket, sys, urllib.request as u; url = f'http://{socket.gethostname()}:8000{sys.argv[1]}';"
        " u.urlopen(u.Request(url, headers={'Host': 'localhost'}))"
    )
    for link in links:
        assert dev.get(link).status_code == 200
        run = dev.stack.run("docker", "exec", name, "python", "-c", script, link, check=False)
        assert "HTTP Error 404" in run.stderr


def test_the_inspector_streams_each_request_over_a_reload(dev):
    with httpx.stream("GET", f"{dev.url}/_dev/requests/events", trust_env=False, timeout=20) as stream:
        told = (json.loads(line[6:])["path"] for line in stream.iter_lines() if line.startswith('data: {"id"'))
        good = edited(dev.stack.directory / APP, 'return "first', 'return "inspected')
        wait_until("the new code", lambda: dev.get("/word?after").text.startswith("inspected"))
        assert "/word?after" in told
    (dev.stack.directory / APP).write_text(good)


def test_a_database_behind_the_migrations_is_said_with_the_command_that_mends_it(dev):
    migration = dev.stack.directory / "services/web/migrations/versions/29991231_later.py"
    latest = re.search(r"^revision = .(\w+)", max(migration.parent.glob("*.py")).read_text(), re.MULTILINE)[1]
    text = f'revision = "29991231_later"\ndown_revision = "{latest}"\n\n\ndef upgrade() -> None:\n    pass\n'
    with saved(migration, text):
        notice = wait_until("the notice", lambda: (n := dev.news()["notices"]) and n[0])
        assert "29991231_later" in notice
        assert "make migrate" in notice
        assert "make migrate" in dev.get("/loop", headers=HTML).text
    wait_until("no notice", lambda: dev.news()["notices"] == [])


def test_changed_dependencies_are_said_with_what_to_run(dev):
    declared = dev.stack.directory / "services/web/pyproject.toml"
    text = declared.read_text()
    with saved(declared, text.replace('"flask-wtf', '"leftpad", "flask-wtf')):
        notice = wait_until("the notice", lambda: (n := dev.news()["notices"]) and n[0])
        assert "services/web/pyproject.toml changed" in notice
        assert "make lock" in notice
    wait_until("no notice", lambda: dev.news()["notices"] == [])
    with saved(declared, text + "\n# a comment alone\n"):
        wait_until("the look at it", lambda: dev.get().status_code == 200)
        assert dev.news()["notices"] == []


def test_open_pages_take_no_thread_and_survive_a_reload(dev):
    with ExitStack() as pages:
        streams = [
            pages.enter_context(httpx.stream("GET", f"{dev.url}/_dev/events", trust_env=False, timeout=20))
            for _ in range(20)  # more than there are threads
        ]
        news = [(json.loads(line[6:]) for line in each.iter_lines() if line.startswith("data: ")) for each in streams]
        before = {next(each)["code"] for each in news}
        begun = monotonic()
        edited(dev.stack.directory / APP, "return app", "return app  # saved")
        after = {next(each)["code"] for each in news}
        assert len(before) == len(after) == 1
        assert max(before) < max(after)
        assert monotonic() - begun < 5
        assert dev.get().status_code == 200


def test_an_edit_of_the_development_server_itself_starts_it_anew_on_the_same_port(dev):
    source = dev.stack.directory / "slipway/devserver/src/devserver/sql.py"
    good = source.read_text()
    source.write_text(good + "\nimport a_module_that_is_not_there\n")
    wait_until("the refusal", lambda: "it goes on as it was" in dev.log)
    assert dev.get().status_code == 200
    source.write_text(good + "\n# saved\n")
    wait_until("the new one", lambda: "restarts" in dev.log)
    assert dev.get().status_code == 200
    wait_until("it to be new", lambda: dev.log.rindex("serving after") > dev.log.rindex("restarts"))


@pytest.mark.containers
def test_a_reload_says_its_own_two_lines_and_nothing_else(dev):
    if "DOCKER" in dev.stack.environment:
        return  # natively the machine's Python determines what is logged
    before, said = processes(dev), len(dev.log)
    edited(dev.stack.directory / APP, "return app", "return app  # once more")
    wait_until("the old code to end", lambda: len(processes(dev) & before) == 2, 60)  # PID 1 and the supervisor stay
    wait_until("the new code", lambda: "serving after" in dev.log[said:])
    assert [re.sub(r"^.* dev: |\d+ ms$", "", line) for line in dev.log[said:].splitlines()] == [
        f"{APP} changed: restarting",
        "serving after ",
    ]


def processes(dev):
    """The host's ids of all processes in the app's container."""
    table = dev.stack.run("docker", "top", dev.stack.container("web")["Id"], "-eo", "pid").stdout
    return set(table.split()[1:])


def test_files_that_the_app_writes_belong_to_the_user(dev):
    owners = {path.stat().st_uid for path in dev.stack.directory.rglob("*")}
    assert owners == {os.getuid()}


def test_ctrl_c_stops_everything_and_says_so(dev):
    dev.stop()
    with pytest.raises(httpx.TransportError):
        dev.get()
    running = [c["Name"] for c in dev.stack.containers() if c["State"]["Running"]]
    assert running == []
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(dev.stack.directory) in command(path)]
    assert left == []
    assert "Stopped; the data stays in" in dev.log


def command(path):
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""  # it has ended meanwhile


def test_a_taken_port_is_one_line_that_names_the_way_out(tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        stack = Stack(copy_tree(tmp_path), unique("port"), DEV_PORT=taken.getsockname()[1], DOCKER="no")
        run = stack.run(sys.executable, "-m", "slipway.commands", "dev", check=False)
    assert run.returncode != 0
    assert len(run.stderr.strip().splitlines()) == 1
    assert "DEV_PORT=" in run.stderr
    assert not (tmp_path / ".data").exists()


def test_code_that_is_broken_from_the_start_is_a_page_and_polling_sees_it_mended(tmp_path):
    directory = copy_tree(tmp_path)
    good = edited(directory / APP, "return app", "return app\n\nfrom nowhere import nothing")
    with developing(directory, native=True, status=500, RELOAD="poll") as dev:
        assert "from nowhere import nothing" in dev.get(headers=HTML).text
        (directory / APP).write_text(good)
        wait_until("the app", lambda: dev.get().status_code == 200)
