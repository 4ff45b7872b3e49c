"""What the proxy promises, for any client and any service."""

import hashlib
import json
import re
import shutil
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from slipway.proofs.harness import AUTHORITIES, ROOT, SERVICES, edited, to_host, wait_until
from slipway.proofs.stack.clients import Clients
from slipway.proofs.stack.raw import Line

pytestmark = pytest.mark.containers

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
ON_EVERY_ANSWER = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
YEAR = "public, max-age=31536000, immutable"
BROWSER, PROGRAM = {"Accept": "text/html,*/*;q=0.8"}, {"Accept": "application/json"}


@pytest.fixture(scope="module")
def client(proxied):
    with proxied.client() as client:
        yield client


@pytest.fixture(scope="module")
def line(proxied):
    return Line.to(proxied)


def over_http(stack, path="/", host="localhost", **options):
    url = f"http://localhost:{stack.environment['HTTP_PORT']}{path}"
    return httpx.get(url, trust_env=False, headers={"Host": host}, **options)


def assert_guarded(answer, https=True):
    headers = answer.headers
    assert {name: headers.get_list(name) for name in ON_EVERY_ANSWER} == {
        name: [value] for name, value in ON_EVERY_ANSWER.items()
    }
    assert headers.get_list("strict-transport-security") == (["max-age=31536000"] if https else [])
    assert len(headers.get_list("x-request-id")) == 1
    assert not {"via", "x-powered-by"} & set(headers)
    assert headers.get("server", "nginx") == "nginx"  # which can't leave it out


def stylesheet(client):
    return re.search(r'href="(/static/style[^"]+)"', client.get("/").text)[1]


def not_modified(client):
    url = stylesheet(client)
    return client.get(url, headers={"If-None-Match": client.get(url).headers["etag"]})


def beyond(client):
    # Uncompressed: Caddy sets gzip on its own texts, too.
    return client.get(stylesheet(client), headers={"Range": "bytes=99999999-", "Accept-Encoding": "identity"})


KINDS = {
    "a page": (200, lambda client: client.get("/")),
    "its head": (200, lambda client: client.head("/")),
    "an answer for programs": (200, lambda client: client.get("/probe/rows")),
    "a static file": (200, lambda client: client.get(stylesheet(client))),
    "a static file that has not changed": (304, not_modified),
    "a part of a static file": (206, lambda client: client.get(stylesheet(client), headers={"Range": "bytes=0-9"})),
    "a part that a static file does not have": (416, beyond),
    "a static file that the app alone has": (200, lambda client: client.get("/static/style.00000000.css")),
    "the app's 404": (404, lambda client: client.get("/nowhere")),
    "the app's 405": (405, lambda client: client.delete("/")),
    "the proxy's 404": (404, lambda client: client.get("/metrics")),
    "the proxy's 413": (413, lambda client: client.post("/", content=bytes(1_100_000))),
    "the proxy's 414": (414, lambda client: client.get("/" + "a" * 4100)),
    "the proxy's 421": (421, lambda client: client.get("/", headers={"Host": "shop.example"})),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_answer_carries_each_security_header_once_and_no_version(client, kind):
    status, ask = KINDS[kind]
    answer = ask(client)
    assert answer.status_code == status
    assert_guarded(answer)


def test_every_services_answers_do_too(client):
    for service in SERVICES:
        if service.serves:
            for path in ("", "version", "nowhere"):
                assert_guarded(client.get(f"{service.path}{path}"))


def test_over_plain_http_too_but_for_strict_transport_security(proxied):
    assert_guarded(over_http(proxied), https=False)
    assert_guarded(over_http(proxied, host="shop.example"), https=False)


# --- TLS and names ---


def test_http_is_sent_to_https_by_the_sites_own_name_only(proxied):
    ours = over_http(proxied, "/a/page?number=2")
    assert (ours.status_code, ours.headers["location"]) == (
        308,
        f"https://localhost:{proxied.environment['HTTPS_PORT']}/a/page?number=2",
    )
    for host in ("shop.example", "127.0.0.1", "localhost.shop.example"):
        answer = over_http(proxied, host=host)
        assert (answer.status_code, answer.content) == (421, b"")
        assert "location" not in answer.headers


def handshake(line, context, name="localhost"):
    with (
        socket.create_connection(("127.0.0.1", line.port), 5) as connection,
        context.wrap_socket(connection, server_hostname=name) as secured,
    ):
        return secured.version(), secured.selected_alpn_protocol()


def careless(version=None):
    """A client that accepts any certificate, with a specific version of TLS if one is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version:
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    return context


def test_there_is_no_certificate_for_an_unknown_name(line):
    for name in ("shop.example", "127.0.0.1"):
        with pytest.raises(ssl.SSLError, match=r"ALERT|UNRECOGNIZED_NAME"):
            handshake(line, careless(), name)


def test_a_certificate_for_one_name_opens_no_other(client):
    answer = client.get("/", headers={"Host": "shop.example"})
    assert (answer.status_code, answer.content) == (421, b"")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_1_1_is_refused_and_1_2_and_1_3_are_spoken(line):
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        handshake(line, careless(ssl.TLSVersion.TLSv1_1))
    assert handshake(line, careless(ssl.TLSVersion.TLSv1_2))[0] == "TLSv1.2"
    assert handshake(line, careless(ssl.TLSVersion.TLSv1_3))[0] == "TLSv1.3"


def test_http_2_is_spoken(line):
    context = careless()
    context.set_alpn_protocols(["h2", "http/1.1"])
    assert handshake(line, context)[1] == "h2"


@contextmanager
def published_everywhere(stack):
    """Production without PUBLISH_ADDRESS, and this host's addresses in another network, IPv4 and IPv6."""
    network = f"{stack.project}-beside"
    own = "com.docker.network.bridge.enable_ip_masquerade=false"  # requests from it keep their address
    address = stack.environment.pop("PUBLISH_ADDRESS")
    listener = ("up", "--detach", "--wait", "--no-deps", "listener")
    label = f"com.docker.compose.project={stack.project}"
    stack.run("docker", "network", "create", "--ipv6", "--opt", own, "--label", label, network)
    try:
        stack.compose(*listener)
        wait_until("the proxy", lambda: over_http(stack, "/"))
        told = json.loads(stack.run("docker", "network", "inspect", network).stdout)
        yield [each["Gateway"] for each in told[0]["IPAM"]["Config"]]
    finally:
        stack.run("docker", "network", "rm", network)
        stack.environment["PUBLISH_ADDRESS"] = address
        stack.compose(*listener)
        wait_until("the proxy", lambda: over_http(stack, "/"))


def test_both_families_are_served_and_the_app_sees_each_clients_own_address(proxied):
    http, https = proxied.environment["HTTP_PORT"], proxied.environment["HTTPS_PORT"]
    with published_everywhere(proxied) as own, proxied.client() as client:
        for address in ("127.0.0.1", "::1", *own):
            host = f"[{address}]" if ":" in address else address
            moved = httpx.get(f"http://{host}:{http}/", headers={"Host": "localhost"}, trust_env=False)
            assert moved.status_code == 308
            answer = client.get(f"https://{host}:{https}/version?from={address}", **to_host("localhost"))
            assert answer.status_code == 200
        ports = proxied.container("listener")["NetworkSettings"]["Ports"]
        assert {each["HostIp"] for each in ports[f"{https}/tcp"]} == {"0.0.0.0", "::"}
        for address in own:
            seen = f'"client":"{address}"'
            logs = lambda: proxied.compose("logs", "--no-log-prefix", "web-a", "web-b").stdout.splitlines()  # noqa: E731
            wait_until(seen, lambda: any(f"from={address}" in line and seen in line for line in logs()))  # noqa: B023


# --- Errors ---


@pytest.mark.parametrize("kind", ["the proxy's 404", "the proxy's 413", "the proxy's 414"])
def test_the_proxys_errors_are_a_page_for_browsers_and_problem_details_for_programs(client, kind):
    status, ask = KINDS[kind]
    client.headers.update(BROWSER)
    page = ask(client)
    client.headers.update(PROGRAM)
    problem = ask(client)
    client.headers.update({"Accept": "*/*"})
    assert_page(page, status)
    assert_problem(problem, status)
    assert page.headers["cache-control"] == problem.headers["cache-control"] == "no-store"


def assert_page(answer, status):
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert f"{status} " in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert '<html lang="en">' in answer.text
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=", answer.text)


def assert_problem(answer, status):
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body.keys() == {"type", "title", "status", "detail", "request_id"}
    assert (answer.status_code, body["status"]) == (status, status)
    assert body["request_id"] == answer.headers["x-request-id"]


def test_below_api_every_client_gets_problem_details(client):
    assert_problem(client.get("/api/" + "a" * 4100, headers=BROWSER), 414)


def test_what_the_error_page_shows_is_served_and_nothing_else_from_beside_it(client):
    page = client.get("/metrics", headers=BROWSER).text
    shown = set(re.findall(r'(?:href|src)="(/_proxy/[^"]+)"', page))
    assert len(shown) == 2
    assert {client.get(url).status_code for url in shown} == {200}
    for name in ("", "errors.caddy", "Caddyfile", "../Caddyfile", "..%2fCaddyfile"):
        assert client.get(f"/_proxy/{name}").status_code == 404


def test_the_apps_own_errors_pass_as_they_are(client):
    page = client.get("/nowhere", headers=BROWSER)
    assert "Skip to the content" in page.text
    assert page.headers["x-request-id"] in page.text
    assert_problem(client.post("/probe/rows", json={"title": 1}, headers=PROGRAM), 422)


def test_a_request_id_from_outside_is_used_where_it_is_harmless(client):
    harmless, harmful = "from-outside-1234", "<b>bold</b>"
    assert harmless in client.get("/metrics", headers=BROWSER | {"X-Request-ID": harmless}).text
    answer = client.get("/metrics", headers=BROWSER | {"X-Request-ID": harmful})
    assert harmful not in answer.text
    assert harmful not in answer.headers["x-request-id"]


def test_the_proxys_log_names_the_request_and_the_cause(proxied, client):
    client.get("/metrics", headers={"X-Request-ID": "an-error-to-find"})
    wait_until(
        "the request in the log",
        lambda: '"request_id":"an-error-to-find"' in proxied.compose("logs", "--no-log-prefix", "proxy").stdout,
    )


# --- What is not public ---


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/metrics/", "/metrics/x", "/metrics?x", "//metrics", "/Metrics", "/METRICS", "/%6detrics",
     "/%6D%65trics", "/metrics%2f", "/./metrics", "/x/../metrics", "/x/..%2fmetrics", "/%2e/metrics",
     "/%2fmetrics", "/metrics%00", "/metrics;x", "/metrics%20", "/%256detrics", "/\\metrics"],
)  # fmt: skip
def test_metrics_are_not_public_however_they_are_spelt(line, path):
    answer = line.get(path)
    assert answer.statuses in ([404], [400])  # which nginx answers to a NUL
    assert b"http_requests_total" not in answer.data


def test_the_admin_api_is_not_reachable_from_another_container_nor_from_the_host(proxied):
    reach = "import socket; socket.create_connection({}, 3); print('reached')"
    for address, expected in {("proxy", 2019): "", ("web-b", 8000): "reached\n"}.items():
        run = proxied.compose("exec", "-T", "web-a", "python", "-c", reach.format(address), check=False)
        assert run.stdout == expected
    assert not any(proxied.container("proxy")["NetworkSettings"]["Ports"].values())


# --- Static files ---


def test_a_static_file_is_named_by_its_contents_and_kept_for_a_year(client):
    url = stylesheet(client)
    answer = client.get(url)
    assert hashlib.sha256(answer.content).hexdigest()[:8] == re.search(r"\.([0-9a-f]{8})\.css$", url)[1]
    assert answer.headers["cache-control"] == YEAR
    assert answer.headers["content-type"] == "text/css; charset=utf-8"


def test_static_files_and_pages_are_compressed(client):
    assert_compressed(client, "gzip")


def test_caddy_compresses_them_with_zstd_too(probed):
    with probed.client() as client:
        assert_compressed(client, "zstd")


def assert_compressed(client, coding):
    accept = {"Accept-Encoding": coding}
    url = stylesheet(client)
    whole = len(client.get(url, headers={"Accept-Encoding": "identity"}).content)
    for path in (url, "/"):
        with client.stream("GET", path, headers=accept) as answer:
            raw = b"".join(answer.iter_raw())
            assert answer.headers["content-encoding"] == coding
            assert "accept-encoding" in answer.headers["vary"].lower()
        assert path != url or len(raw) == int(answer.headers["content-length"]) < whole / 2


def test_a_name_with_a_digest_that_does_not_match_is_not_kept(client):
    answer = client.get("/static/style.00000000.css")
    assert answer.headers.get("cache-control") == "no-cache"


def test_an_error_about_a_static_file_is_not_kept(client):
    assert "max-age" not in beyond(client).headers.get("cache-control", "")
    assert client.get(stylesheet(client)).headers["cache-control"] == YEAR
    part = client.get(stylesheet(client), headers={"Range": "bytes=0-9"})
    assert part.headers["cache-control"] in (YEAR, "no-cache")


def test_a_static_file_that_the_proxy_has_is_not_logged_and_any_other_is(proxied, client):
    client.get(f"{stylesheet(client)}?the-proxys")
    client.get("/static/style.00000000.css?the-apps")

    def logged():
        said = proxied.compose("logs", "--no-log-prefix", "proxy").stdout
        return said if "?the-apps" in said else ""

    assert "?the-proxys" not in wait_until("the line of the app's", logged)


@pytest.mark.parametrize("path", ["/static", "/static/", "/static/flags", "/static/flags/", "/static/style.css.gz"])
def test_directories_are_not_listed(client, path):
    assert client.get(path).status_code == 404


@contextmanager
def next_release(stack):
    """An image with a different stylesheet, which compose then starts."""
    lines = f"""
        FROM {stack.image()}
        USER 0
        RUN echo '/* the next release */' >> /app/services/web/src/web/static/style.css
        USER 10001:10001
    """
    stack.run("docker", "build", "--quiet", "--tag", stack.image("next"), "-", input=lines)
    stack.environment["TAG"] = "next"
    try:
        yield
    finally:
        del stack.environment["TAG"]
        stack.compose("up", "--detach", "--wait", "--no-deps", "--no-build", "web-a", "web-b")


def test_during_a_roll_both_releases_files_are_served_and_after_it_too(proxied, client):
    old = stylesheet(client)
    with next_release(proxied):
        proxied.compose("run", "--rm", "--no-deps", "-T", "migrate")
        for replica in ("web-b", "web-a"):
            proxied.compose("up", "--detach", "--wait", "--no-deps", "--no-build", replica)
            wait_until("a page of the new release", lambda: stylesheet(client) != old)
            new = wait_until("its stylesheet", lambda: {stylesheet(client)} - {old}).pop()
            for url in (old, new) * 4:
                answer = client.get(url)
                assert answer.status_code == 200
                assert hashlib.sha256(answer.content).hexdigest()[:8] in url
                assert answer.headers["cache-control"] == YEAR
        assert stylesheet(client) == new


# --- Its operator ---


def test_the_caddyfile_is_formatted(probed):
    for name in ("Caddyfile", "errors/errors.caddy"):
        run = probed.compose("exec", "-T", "proxy", "caddy", "fmt", f"/etc/caddy/{name}", check=False)
        assert run.returncode == 0, run.stderr


def test_a_changed_configuration_and_a_new_image_fail_no_request(proxied, client, record_property):
    """On kept connections, none that a client sees which asks once more where an idle connection was closed."""
    dockerfile = proxied.directory / f"docker/proxy/{proxied.proxy}/Dockerfile"
    former = dockerfile.read_text()
    load = Clients(proxied.authority(), proxied.environment["HTTPS_PORT"])
    with edited(proxied, "camera=()", "camera=(), changed=()"), load:
        assert "serves with" in proxied.make("proxy-reload").stdout
        assert "changed=()" in client.get("/").headers["permissions-policy"]
        try:
            dockerfile.write_text(f"{former}ENV CHANGED=yes\n")
            proxied.compose("build", "proxy")
            proxied.make("proxy-reload")
            assert "CHANGED=yes" in proxied.container("proxy")["Config"]["Env"]
        finally:
            dockerfile.write_text(former)
            proxied.compose("build", "proxy")
            proxied.make("proxy-reload")
        wait_until("3,000 requests", lambda: load.total >= 3000, 90)
    record_property("figure", str(load))
    assert load.failed == []
    assert "CHANGED=yes" not in proxied.container("proxy")["Config"]["Env"]


def test_while_there_is_no_proxy_a_connection_waits(proxied):
    with proxied.client() as client, ThreadPoolExecutor() as pool:
        proxied.compose("stop", "proxy")
        try:
            asked = pool.submit(client.get, "/version")
            assert not asked.done()
        finally:
            proxied.compose("up", "--detach", "--wait", "--no-deps", "proxy")
        assert asked.result().status_code == 200


def test_caddy_accepts_no_connection_before_it_has_its_own_certificate(probed):
    probed.compose("up", "--detach", "--wait", "proxy")
    probed.compose("exec", "--no-TTY", "proxy", "rm", "-r", "/data/caddy/certificates")
    with probed.client() as client, ThreadPoolExecutor() as pool:
        probed.compose("stop", "proxy")
        try:
            asked = [pool.submit(client.get, "/version") for _ in range(8)]
            wait_until("a request", asked[0].running)
        finally:
            probed.compose("up", "--detach", "--wait", "--no-deps", "proxy")
        assert {each.result().status_code for each in asked} == {200}


def test_a_broken_configuration_is_one_line_and_changes_nothing(proxied, client):
    with edited(proxied, "least_conn", "least_con"):
        run = proxied.make("proxy-reload", check=False)
        assert run.returncode != 0
        complaint = [line for line in run.stderr.splitlines() if not line.startswith("make: ***")]
        assert len(complaint) == 1
        assert "nothing has changed" in complaint[0]
        assert "least_con" in complaint[0]
        assert client.get("/").status_code == 200


def test_with_a_broken_configuration_the_proxy_starts_on_what_worked_before_and_says_so(proxied, client):
    """A restart, as after one of the host; then a new container, with what a reload loaded in between."""
    authority = proxied.authority()
    for how, mark in ((["restart"], "first=()"), (["up", "--detach", "--force-recreate", "--no-deps"], "second=()")):
        with edited(proxied, "camera=()", f"camera=(), {mark}"):
            proxied.make("proxy-reload")
            with edited(proxied, "least_conn", '"least\\con"'):
                proxied.compose(*how, "proxy")
                page = wait_until("the proxy", lambda: client.get("/"))
                assert page.status_code == 200
                assert mark in page.headers["permissions-policy"]
                assert client.get(stylesheet(client)).headers["cache-control"] == YEAR
                assert_page(client.get("/metrics", headers=BROWSER), 404)
                assert proxied.authority() == authority
                said = proxied.compose("logs", "--no-log-prefix", "proxy").stdout.splitlines()
                (entry,) = [json.loads(line) for line in said if "last configuration that worked" in line][-1:]
                assert entry["level"].upper() == "ERROR"
                assert "least\\con" in entry.get("error", entry.get("message"))
                told = proxied.make("ps").stdout.splitlines()
                assert ["least\\con" in line for line in told if "last configuration that worked" in line] == [True]
            assert "last configuration" not in proxied.make("ps").stdout


def test_maintenance_is_one_command_and_touches_nothing_that_runs(proxied, client):
    before = {c["Name"]: c["State"]["StartedAt"] for c in proxied.containers()}
    proxied.make("maintenance")
    try:
        page, problem = client.get("/", headers=BROWSER), client.get("/api/anything")
        for answer in (page, problem):
            assert_guarded(answer)
            assert int(answer.headers["retry-after"]) >= 60
        assert_page(page, 503)
        assert "maintenance" in page.text
        assert_problem(problem, 503)
        assert client.get("/_proxy/error.css").status_code == 200
        assert proxied.container("web-a")["State"]["Health"]["Status"] == "healthy"
    finally:
        proxied.make("maintenance-off")
    assert client.get("/").status_code == 200
    assert {c["Name"]: c["State"]["StartedAt"] for c in proxied.containers()} == before


@contextmanager
def a_module_of_its_own(stack):
    """CADDY_PLUGINS names a module that sends a header; afterwards, Caddy is the official one again."""
    folder = stack.directory / "docker/proxy/caddy/plugins"
    shutil.copytree(ROOT / "slipway/proofs/stack/plugin", folder / "greeting")
    stack.environment["CADDY_PLUGINS"] = "example.org/greeting=/plugins/greeting"
    try:
        with edited(stack, "import services/*.caddy", 'import services/*.caddy\n\tgreeting "Hello"'):
            yield
    finally:
        del stack.environment["CADDY_PLUGINS"]
        shutil.rmtree(folder)
        stack.make("proxy-reload")


@pytest.mark.builder
def test_caddy_is_built_with_the_modules_that_env_names_and_replaced_without_a_gap(probed, record_property):
    official = probed.container("proxy")["Image"]
    load = Clients(probed.authority(), probed.environment["HTTPS_PORT"])
    with probed.client() as client, a_module_of_its_own(probed):
        began = time.monotonic()
        with load:
            probed.make("proxy-reload")
            assert client.get("/").headers["greeting"] == "Hello"
        record_property("figure", f"built and replaced in {time.monotonic() - began:.1f} s; {load}")
        assert load.failed == []
        assert probed.container("proxy")["Config"]["User"] == "10002:10002"

        probed.environment["CADDY_PLUGINS"] += " example.org/mistyped@v1.0.0"
        run = probed.make("proxy-reload", check=False)
        (complaint,) = [line for line in run.stderr.splitlines() if not line.startswith("make: ***")]
        assert "nothing has changed: CADDY_PLUGINS: " in complaint
        assert "example.org/mistyped" in complaint
        assert client.get("/").headers["greeting"] == "Hello"
    assert probed.container("proxy")["Image"] == official


def test_a_site_of_plain_http_works_with_its_forms_and_promises_no_https(proxied):
    proxied.environment["SITE_ADDRESS"] = "http://localhost"
    proxied.make("proxy-reload")
    try:
        form = over_http(proxied, "/probe/form")
        assert form.status_code == 200
        assert_guarded(form, https=False)
        token = re.search(r'name="csrf_token" value="([^"]*)"', form.text)[1]
        sent = httpx.post(
            str(form.url),
            data={"title": "In the clear", "csrf_token": token},
            headers={"Host": "localhost", "Cookie": form.headers["set-cookie"].partition(";")[0]},
            trust_env=False,
        )
        assert (sent.status_code, sent.text) == (200, "accepted")
    finally:
        proxied.environment.pop("SITE_ADDRESS")
        proxied.make("proxy-reload")


@pytest.fixture(scope="module")
def complete(proxied):
    """The address of a container of the proxy's image with its configuration in it, which nothing is mounted into, in
    front of the same replicas; and what trusts its certificate."""
    kind, name, image = proxied.proxy, f"{proxied.project}-complete", f"{proxied.environment['IMAGE_PREFIX']}complete"
    contexts = ("--build-context", "kit=slipway/proxy", "--build-context", "pages=docker/proxy/pages")
    proxied.run("docker", "build", "--target", "complete", *contexts, "--tag", image, f"docker/proxy/{kind}")
    site = "localhost" if kind == "caddy" else "http://localhost"  # nginx's certificates are another container's work
    safe = ("--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE", "--security-opt", "no-new-privileges")
    where = ("--network", f"{proxied.project}_front", "--env", f"SITE_ADDRESS={site}")
    proxied.run("docker", "run", "--detach", "--name", name, *safe, *where, image)
    try:
        inspect = lambda: json.loads(proxied.run("docker", "inspect", name).stdout)[0]  # noqa: E731
        wait_until("its health", lambda: inspect()["State"]["Health"]["Status"] == "healthy")
        (network,) = inspect()["NetworkSettings"]["Networks"].values()
        trust = ssl.create_default_context()
        if kind == "caddy":
            own = lambda: proxied.run("docker", "exec", name, "cat", AUTHORITIES[kind]).stdout  # noqa: E731
            trust = ssl.create_default_context(cadata=wait_until("its authority", own))
        yield f"{'https' if kind == 'caddy' else 'http'}://{network['IPAddress']}", trust
    finally:
        proxied.run("docker", "rm", "--force", name)


def test_an_image_with_its_configuration_in_it_serves_without_a_mount(complete):
    url, trust = complete
    https = url.startswith("https")
    with httpx.Client(base_url=url, verify=trust, trust_env=False) as client:
        page = wait_until("a replica's answer", lambda: ok(client.get("/probe/rows", **to_host("localhost"))))
        assert "titles" in page.json()
        client.headers.update(BROWSER)
        problem, style = (client.get(path, **to_host("localhost")) for path in ("/metrics", "/_proxy/error.css"))
        assert_page(problem, 404)
        assert style.status_code == 200
        for answer in (page, problem, style):
            assert_guarded(answer, https)


def ok(answer):
    return answer if answer.status_code == 200 else None


# --- Last, since the app is stopped ---


def test_with_both_replicas_gone_the_proxy_says_so_and_static_files_are_still_served(proxied, client):
    url = stylesheet(client)
    proxied.compose("kill", "web-a", "web-b")
    try:
        with ThreadPoolExecutor() as pool:
            asked = [pool.submit(client.get, "/", headers=BROWSER, timeout=40) for _ in range(2)]
            asked += [pool.submit(client.get, "/api/anything", timeout=40)]
            assert client.get(url).headers["cache-control"] == YEAR
            page, _, problem = (each.result() for each in asked)
        for answer in (page, problem):
            assert answer.status_code in (502, 503)
            assert_guarded(answer)
            assert int(answer.headers["retry-after"]) > 0
        assert_page(page, page.status_code)
        assert_problem(problem, problem.status_code)
    finally:
        proxied.compose("up", "--detach", "--wait", "web-a", "web-b")
    wait_until("the app", lambda: client.get("/").status_code == 200)
