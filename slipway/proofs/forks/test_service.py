"""`make service` in a fresh clone: each kind is generated, tested, built, started, stopped, and removed again."""

import json
import re
import subprocess
import tarfile
from itertools import takewhile
from pathlib import PurePosixPath

import pytest
import yaml

from slipway.proofs.forks.fork import Fork, complaint
from slipway.proofs.harness import developing, ports, wait_until

KINDS = {
    "billing": [],
    "shop": ["db=no"],
    "depot": ["host=depot.localhost"],
    "live": ["kind=asgi"],
    "orders": ["kind=asgi", "db=yes"],
    "flows": ["kind=asgi", "framework=fastapi", "db=yes"],
    "ui": ["kind=static", "path=/front"],
    "tick": ["kind=worker"],
    "ledger": ["kind=worker", "db=yes"],
    "report": ["kind=script"],
}
SERVED = {
    "billing": "/billing/",
    "shop": "/shop/",
    "live": "/live/",
    "orders": "/orders/",
    "flows": "/flows/",
    "ui": "/front/",
}
MB = 1_000_000
# The existing environment: commands that only add or remove a service do not run its code.
NOT_INSTALLED_AGAIN = ("--old-file=.venv/installed",)


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    fork = Fork(tmp_path_factory.mktemp("service"), **ports())
    fork.make(".venv/installed")
    yield fork
    fork.destroy()


@pytest.fixture(scope="module")
def grown(fork):
    """The fork with a service of each kind; each in a commit of its own."""
    fork.before, fork.said = fork.git("rev-parse", "HEAD").strip(), {}
    for name, words in KINDS.items():
        fork.said[name] = fork.make("service", f"name={name}", *words, *NOT_INSTALLED_AGAIN).stdout
        fork.commit(f"Add {name}")
    fork.make(".venv/installed")
    return fork


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name is not set: make service name=billing"),
        (["name=web"], "there is a service web already"),
        (["name=db"], "db is reserved"),
        (["name=chassis"], "chassis is reserved"),
        (["name=slipway"], "slipway is reserved"),
        (["name=flask"], "flask is the name of a library that is used here"),
        (["name=json"], "json is a module of Python's standard library"),
        (["name=class"], "class is a word of Python's"),
        (["name=Billing"], "'Billing' is no name"),
        (["name=my-shop"], "'my-shop' is no name"),
        (["name=../shop"], "'../shop' is no name"),
        (["name=9lives"], "'9lives' is no name"),
        (["name=" + "x" * 31], "is no name"),
        (["name=edge"], "edge is in compose/*.yaml already"),
        (["name=billing", "kind=cron"], "kind is 'cron': it must be one of"),
        (["name=billing", "db=perhaps"], "db is 'perhaps': it must be yes or no"),
        (["name=billing", "kind=static", "db=yes"], "static comes without a database"),
        (["name=billing", "framework=fastapi"], "framework is for the kind asgi; web has Flask"),
        (["name=billing", "kind=worker", "framework=sanic"], "framework is for the kind asgi; worker has none"),
        (["name=billing", "kind=asgi", "framework=django"], "framework is 'django': it must be one of sanic, fastapi"),
        (["name=billing", "path=/../etc"], "path is '/../etc': it must look like /billing"),
        (["name=billing", "path=/metrics"], "path /metrics lies in /metrics"),
        (["name=billing", "host=not_a_host"], "host is 'not_a_host': it must be a domain"),
        (["name=billing", "kind=worker", "path=/x"], "path and host are for what serves"),
    ],
)
def test_what_could_not_work_is_refused_before_anything_is_written(fork, words, said):
    refused = complaint(fork.make("service", *words, check=False))
    assert refused.startswith("make service: ")
    assert said in refused
    assert fork.changed() == ""


def test_a_run_that_fails_leaves_the_tree_as_it_was(fork):
    head = fork.git("rev-parse", "HEAD")
    offline = {**fork.environment, "UV_INDEX_URL": "http://127.0.0.1:9/simple", "UV_NO_CACHE": "1"}
    fork.replace(
        "slipway/templates/service/services/{{ name }}/pyproject.toml.jinja", '"chassis', '"no-such-library", "chassis'
    )
    fork.commit("Break the template")
    refused = complaint(fork.make("service", "name=billing", check=False, env=offline))
    assert "the lock can't be brought up to date, and nothing was changed" in refused
    assert fork.changed() == ""
    assert not (fork.directory / "services/billing").exists()
    fork.git("reset", "--quiet", "--hard", head.strip())


def test_each_kinds_own_tests_pass(grown):
    folders = [f"services/{name}" for name in KINDS]
    tested = grown.make("test", "s=billing", "args=-q")
    assert re.search(r"\d+ passed", tested.stdout)
    tested = grown.run(".venv/bin/python", "-m", "pytest", "-q", *folders, check=False)
    assert tested.returncode == 0, tested.stdout


def test_make_run_hands_options_to_a_script_and_tells_its_exit_code(grown):
    natively = {**grown.environment, "DOCKER": "no"}
    assert "month 5: done" in grown.make("run", "s=report", "cmd=--month 5", env=natively).stdout
    wrong = grown.make("run", "s=report", "cmd=--month 13", check=False, env=natively)
    assert "report: error: argument --month: invalid choice" in wrong.stderr
    assert "Error 2" in wrong.stderr


def test_what_is_generated_is_formatted_linted_and_documented(grown):
    grown.make("lint")
    assert "DEV_PORT_BILLING=8001" in grown.read(".env.example")
    assert "STATUS_PEERS: billing-a:8000,billing-b:8000" in grown.read("compose/billing.yaml")
    assert "SERVER: gunicorn" in grown.read("compose/live.yaml")
    assert grown.changed() == ""


def test_the_one_whose_connections_are_too_many_for_postgres_says_so_and_what_to_set(grown):
    telling = [name for name in grown.said if "DATABASE_CONNECTIONS=120" in grown.said[name]]
    assert telling == ["depot"]
    assert "billing, depot, web may open 108 connections together, and Postgres takes 100" in grown.said["depot"]


def test_no_shared_file_is_edited_but_the_list_of_files_and_what_is_derived(grown):
    touched = grown.git("diff", "--name-only", "--diff-filter=M", grown.before, "HEAD").split()
    lists = {"compose.yaml", "deploy/kubernetes/services/kustomization.yaml"}
    assert set(touched) == lists | {"uv.lock", ".env.example", "docs/configuration.md"}


def test_prometheus_asks_each_replica_and_worker_and_each_host_as_a_client_does(grown):
    folder = grown.directory / "docker/observe/targets"
    found = {path.name: yaml.safe_load(path.read_text())[0] for path in folder.iterdir()}
    asked = {name: each["targets"] for name, each in found.items()}
    assert asked.keys() == {*(f"{name}.yml" for name in {"web", *KINDS} - {"report"}), "depot.host.json"}
    assert asked["shop.yml"] == ["shop-a:8000", "shop-b:8000"]
    assert asked["tick.yml"] == ["tick:8000"]
    assert asked["depot.host.json"] == ["depot.localhost"]
    assert found["tick.yml"]["labels"] == {"service": "tick"}


def test_a_path_that_meets_another_services_is_refused(grown):
    assert "meets /billing" in complaint(grown.make("service", "name=other", "path=/billing/more", check=False))


def test_what_asks_a_flask_app_names_what_to_do_instead_for_an_asgi_service(grown):
    for verb, instead in (("shell", 'cmd="python"'), ("seed", "-m orders.seed"), ("routes", "/api/openapi.json")):
        refused = complaint(grown.make(verb, "s=orders", check=False))
        assert f"make {verb}: this asks a Flask app, and orders is of the kind asgi: " in refused
        assert instead in refused


def test_an_update_brings_what_the_template_learnt_and_keeps_what_was_edited(grown):
    page, home = (
        "slipway/templates/service/services/{{ name }}/src/{{ name }}/static/style.css",
        "services/billing/src/billing",
    )
    grown.replace(f"{home}/home.py", '"""The first page."""', '"""Our own page."""')
    grown.commit("An edit of the service")
    grown.write(page, grown.read(page) + "h2 { font-size: 1.25rem; }\n")
    grown.commit("The template learns")
    said = grown.make("service-update", "name=billing").stdout
    assert "static/style.css" in said
    assert "h2 {" in grown.read(f"{home}/static/style.css")
    assert "Our own page." in grown.read(f"{home}/home.py")
    grown.commit("Update billing")
    assert "there is nothing new" in grown.make("service-update", "name=billing").stdout
    grown.git("checkout", "--quiet", ".")


def test_what_both_changed_is_an_ordinary_conflict(grown):
    name = "src/{name}/static/style.css"
    ours, theirs = (
        f"services/shop/{name.format(name='shop')}",
        f"slipway/templates/service/services/{{{{ name }}}}/{name}",
    )
    theirs = theirs.replace("{name}", "{{ name }}")
    head = grown.git("rev-parse", "HEAD").strip()
    grown.replace(ours, "45rem", "50rem")
    grown.replace(theirs, "45rem", "60rem")
    grown.commit("Both change the width")
    assert ours in grown.make("service-update", "name=shop").stdout
    merged = grown.read(ours)
    assert "<<<<<<<" in merged
    assert "50rem" in merged
    assert "60rem" in merged
    grown.git("reset", "--quiet", "--hard", head)


def locked(text: str) -> str:
    """A lock without the files' sizes, which some indexes do not report every time."""
    return re.sub(r" size = \d+,", "", text)


def test_removed_services_leave_the_tree_as_it_was_before_them(grown):
    head = grown.git("rev-parse", "HEAD").strip()
    remove = ("service-remove", "name=tick", *NOT_INSTALLED_AGAIN)
    assert "no terminal: say yes=1" in complaint(grown.make(*remove, check=False, input=""))
    grown.write("services/tick/NOTE", "not committed")
    assert "is not committed" in complaint(grown.make(*remove, "yes=1", check=False))
    (grown.directory / "services/tick/NOTE").unlink()
    for name in KINDS:
        said = grown.make("service-remove", f"name={name}", "yes=1", *NOT_INSTALLED_AGAIN).stdout
        assert ("the database" in said) == (name in ("billing", "depot", "orders", "flows", "ledger"))
        grown.commit(f"Remove {name}")
    left = grown.git("diff", "--name-only", grown.before, "HEAD", "--", ".", ":!slipway/templates").splitlines()
    locks = [locked(grown.git("show", f"{commit}:uv.lock")) for commit in (grown.before, "HEAD")]
    grown.git("reset", "--quiet", "--hard", head)
    assert set(left) <= {"uv.lock"}
    assert locks[0] == locks[1]


def test_only_a_generated_service_is_removed_or_updated(grown):
    grown.make(".venv/installed")
    for verb in ("service-remove", "service-update"):
        assert "web was not made by `make service`" in complaint(grown.make(verb, "name=web", "yes=1", check=False))


HOW = [pytest.param(False, marks=pytest.mark.containers, id="docker"), pytest.param(True, id="native")]
HTML = {"Accept": "text/html"}


@pytest.mark.parametrize("native", HOW)
def test_an_asgi_service_is_developed_with_hot_reload_and_what_breaks_it_is_a_page(grown, native):
    home = "services/live/src/live/home.py"
    with developing(grown.directory, native, service="live") as dev:
        assert dev.get("/live/").json() == {"service": "live"}
        wait_until("the inspector", lambda: '"path": "/live/"' in dev.get("/_dev/requests/events").text)
        grown.replace(home, '"live"})', '"edited"})')
        wait_until("the edit", lambda: dev.get("/live/").json() == {"service": "edited"})
        grown.replace(home, "from sanic", "import nowhere\nfrom sanic")
        page = wait_until("the page", lambda: (r := dev.get("/live/", headers=HTML)).status_code == 500 and r).text
        assert f"<b>{home}</b>" in page
        assert "No module named &#39;nowhere&#39;" in page
        grown.git("checkout", "--quiet", home)
        wait_until("the app again", lambda: dev.get("/live/").json() == {"service": "live"})


@pytest.mark.parametrize("native", HOW)
def test_a_worker_is_begun_anew_at_each_save_its_round_finished_first(grown, native):
    main = "services/tick/src/tick/main.py"
    with developing(grown.directory, native, None, service="tick") as dev:
        wait_until("its first round", lambda: "INFO    tick: round 1" in dev.log, 240)
        grown.replace(main, 'log.info("round %s", number)', LONG_ROUND)
        wait_until("a round of the edit", lambda: "tick: begun" in dev.log)
        grown.replace(main, "import logging", "import nowhere")
        wait_until("the reason", lambda: "No module named 'nowhere'" in dev.log)
        assert "tick: over" in dev.log.partition("No module named 'nowhere'")[0]
        wait_until("a word", lambda: "it ended by itself, with status 1: the next save restarts it" in dev.log)
        grown.git("checkout", "--quiet", main)
        wait_until("its first round again", lambda: dev.log.count("INFO    tick: round 1") == 2)
    assert "Stopped; the data stays in" in dev.log


LONG_ROUND = """log.info("begun")
    __import__("time").sleep(1)
    log.info("over")"""


@pytest.fixture(scope="module")
def running(grown):
    """Production: started with web alone, and then with all the services that were added."""
    grown.git("stash", "--quiet", "--include-untracked", check=False)
    head = grown.git("rev-parse", "HEAD").strip()
    grown.git("checkout", "--quiet", grown.before)
    grown.make("init")
    grown.make("up")
    grown.began = {name: grown.container(name)["State"]["StartedAt"] for name in ("db", "listener", "web-a", "web-b")}
    grown.git("checkout", "--quiet", head)
    grown.make("deploy")
    return grown


@pytest.mark.containers
def test_services_added_to_a_running_production_are_served_and_nothing_that_served_is_recreated(running):
    assert_each_is_served(running)
    with running.client() as client:
        assert "is up." in client.get("/").text
        for name in ("billing", "orders", "flows"):
            made = client.post(f"/{name}/api/entries", json={"text": "kept"})
            assert made.status_code == 201, name
            assert "kept" in client.get(f"/{name}/api/entries").text
    began = {name: running.container(name)["State"]["StartedAt"] for name in ("db", "listener")}
    assert began == {name: running.began[name] for name in began}


def assert_each_is_served(stack):
    """On its path, or on a host of its own and there alone, with its static files; metrics are not public."""
    host = f"depot.localhost:{stack.environment['HTTPS_PORT']}"
    with stack.client() as client:
        for path in SERVED.values():
            assert client.get(path).status_code == 200, path
        for path in ("/billing/metrics", "/billing/health/ready", "/live/metrics"):
            assert client.get(path).status_code == 404, path
        (style,) = re.findall(r'href="(/billing/static/style[^"]+)"', client.get("/billing/").text)
        assert "immutable" in client.get(style).headers["cache-control"]
    with stack.client() as client:
        answer = client.get("/", headers={"Host": host}, extensions={"sni_hostname": "depot.localhost"})
        assert "depot is up." in answer.text
    with stack.client() as client:
        assert client.get("/depot/").status_code == 404


@pytest.mark.containers
def test_nginx_serves_them_by_the_same_declarations(running):
    up = ("up", "--detach", "--wait", "--remove-orphans")
    running.environment["PROXY"] = "nginx"
    try:
        running.compose(*up)
        assert_each_is_served(running)
    finally:
        del running.environment["PROXY"]
        running.compose(*up)


@pytest.mark.containers
def test_a_services_role_reaches_no_database_but_its_own(running):
    mine = "has_database_privilege('billing', datname, 'CONNECT') AND datname !~ '^(postgres|template[01])$'"
    assert running.sql(f"SELECT string_agg(datname, ',') FROM pg_database WHERE {mine}") == "billing"


@pytest.mark.containers
def test_every_verb_knows_a_service_by_its_name(running):
    assert "billing_owner" in running.make("psql", "s=billing", input="SELECT current_user;\n").stdout
    assert running.make("run", "s=billing", "cmd=python -c 'print(6 * 7)'").stdout == "42\n"
    assert "tables with" in running.make("backup", "s=billing").stdout
    running.make("rotate-secret", "s=billing_password")
    running.make("rotate-secret", "s=billing_secret_key")
    with running.client() as client:
        assert "kept" in client.get("/billing/").text


@pytest.mark.containers
def test_a_worker_works_beats_and_stops_cleanly(running):
    assert running.container("tick")["State"]["Health"]["Status"] == "healthy"
    entries = [json.loads(line) for line in running.compose("logs", "--no-log-prefix", "tick").stdout.splitlines()]
    assert any(entry["message"] == "round 1" for entry in entries)
    running.compose("stop", "tick")
    wait_until("the end", lambda: not running.container("tick")["State"]["Running"])
    assert running.container("tick")["State"]["ExitCode"] == 0


@pytest.mark.containers
def test_a_script_gets_its_arguments_and_its_exit_code_comes_through(running):
    report = ("run", "--rm", "-T", "report")
    ran = running.compose(*report, "--month", "5")
    assert json.loads(ran.stdout)["message"] == "month 5: done"
    assert json.loads(running.make("run", "s=report").stdout)["message"].endswith(": done")
    wrong = running.compose(*report, "--month", "13", check=False)
    assert wrong.returncode == 2
    assert "report: error: argument --month: invalid choice" in wrong.stderr


@pytest.mark.containers
def test_the_next_image_adds_under_2_mb_where_its_dependencies_are_the_same(running):
    tag = re.search(r"^TAG=(.+)$", running.read(".env"), re.MULTILINE)[1]
    prefix = running.environment["IMAGE_PREFIX"]

    def image(name):
        return f"{prefix}{name}:{tag}"

    def layers(name):
        inspected = json.loads(running.run("docker", "image", "inspect", image(name)).stdout)
        return inspected[0]["RootFS"]["Layers"]

    # By chain: the same layer on top of another is stored twice.
    shared = list(takewhile(lambda pair: pair[0] == pair[1], zip(layers("billing"), layers("depot"), strict=True)))
    save = subprocess.Popen(["docker", "save", image("depot")], stdout=subprocess.PIPE)
    with save, tarfile.open(fileobj=save.stdout, mode="r|") as archive:
        sizes = {f"sha256:{PurePosixPath(member.name).name}": member.size for member in archive}
    own = [sizes[layer] for layer in layers("depot")[len(shared) :]]
    assert sum(own) < 2 * MB
