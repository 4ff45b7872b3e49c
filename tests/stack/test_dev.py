"""The development loop, with Docker and without: the same page, the same reload."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from harness import Stack, copy_tree, free_port, unique, wait_until, without_docker


@pytest.fixture(
    scope="module",
    params=[pytest.param("docker", marks=pytest.mark.containers), "native"],
)
def dev(request, tmp_path_factory):
    """`make dev` in a fresh checkout, as (stack, url, process)."""
    directory = copy_tree(tmp_path_factory.mktemp("dev"))
    port = free_port()
    stack = Stack(directory, unique("dev"), DEV_PORT=port)
    environment = dict(stack.environment)
    if request.param == "native":
        environment["PATH"] = without_docker(tmp_path_factory.mktemp("path"))
    with (directory / "dev.log").open("w") as log:
        process = subprocess.Popen(
            ["make", "dev"],
            cwd=directory,
            env=stack.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        url = f"http://localhost:{port}"
        wait_until("the home page", lambda: answers(process, url, directory), 240)
        yield stack, url, process
    finally:
        stop(process)
        stack.destroy()


def answers(process, url, directory):
    if process.poll() is not None:
        pytest.fail((directory / "dev.log").read_text())
    return httpx.get(url, trust_env=False).status_code == 200


def stop(process):
    """What Ctrl-C does: an interrupt to every process of the terminal's job."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


def get(url, path="/"):
    return httpx.get(url + path, trust_env=False, timeout=10)


def test_the_page_and_a_working_api(dev):
    _, url, _ = dev
    assert "text/html" in get(url).headers["content-type"]
    made = httpx.post(url + "/api/notes", json={"title": "From dev", "body": ""}, trust_env=False)
    assert made.status_code == 201
    assert get(url, made.headers["location"].removeprefix(url)).json()["title"] == "From dev"


def test_an_edited_template_is_served_at_the_next_request(dev):
    stack, url, _ = dev
    template = stack.directory / "services/web/src/web/templates/home.html"
    template.write_text(template.read_text().replace("</main>", "<p>Edited just now</p></main>"))
    base = stack.directory / "services/web/src/web/templates/base.html"
    base.write_text(base.read_text().replace("</body>", "<p>Edited just now</p></body>"))
    wait_until("the edit on the page", lambda: "Edited just now" in get(url).text)


def test_a_saved_view_is_served_and_an_import_error_is_a_page_until_the_next_good_save(dev):
    stack, url, _ = dev
    source = stack.directory / "services/web/src/web/app.py"
    good = source.read_text()

    source.write_text(good + "\n\nimport a_module_that_is_not_there\n")
    broken = wait_until("the traceback", lambda: (r := get(url)).status_code == 500 and r)
    assert "a_module_that_is_not_there" in broken.text
    assert "app.py" in broken.text

    source.write_text(good)
    wait_until("the app again", lambda: get(url).status_code == 200)


def test_a_save_in_the_chassis_counts_and_so_does_one_made_while_the_app_loads(dev):
    stack, url, _ = dev
    source = stack.directory / "libs/chassis/src/chassis/health.py"
    good = source.read_text()
    for word in ("once", "twice", "thrice"):  # not waiting for the reload in between
        source.write_text(good.replace('status="alive"', f'status="{word}"'))
    wait_until("the last save", lambda: get(url, "/health/live").json()["status"] == "thrice")
    source.write_text(good)
    wait_until("the good one", lambda: get(url, "/health/live").json()["status"] == "alive")


def test_a_changed_dotenv_counts_and_any_other_file_beside_it_does_not(dev):
    stack, url, _ = dev
    post = {"json": {"title": "One more", "body": ""}, "trust_env": False}
    for _ in range(2):
        httpx.post(url + "/api/notes", **post)
    assert len(get(url, "/api/notes").json()["items"]) > 1
    (stack.directory / "scratch.txt").write_text("no setting")
    (stack.directory / ".env").write_text("NOTES_PER_PAGE=1\n")
    wait_until("one note a page", lambda: len(get(url, "/api/notes").json()["items"]) == 1)
    log = (stack.directory / "dev.log").read_text()
    assert ".env changed" in log
    assert "scratch.txt" not in log


def test_files_that_the_app_writes_belong_to_the_user(dev):
    stack, _, _ = dev
    owners = {path.stat().st_uid for path in stack.directory.rglob("*")}
    assert owners == {os.getuid()}


def test_ctrl_c_stops_everything(dev):
    stack, url, process = dev
    stop(process)
    with pytest.raises(httpx.TransportError):
        get(url)
    running = [c["Name"] for c in stack.containers() if c["State"]["Running"]]
    assert running == []
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(stack.directory) in command(path)]
    assert left == []


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
        run = stack.run(sys.executable, "tools/dev.py", check=False)
    assert run.returncode != 0
    assert len(run.stderr.strip().splitlines()) == 1
    assert "DEV_PORT=" in run.stderr
    assert not (tmp_path / ".data").exists()
