"""nginx in Caddy's place: deploys, a replica that dies, certificates from an authority, and the change itself."""

import re
import secrets
import socket
import ssl

import httpx
import pytest

from slipway.proofs.faults.injection import Faulty, Load, faulty_production
from slipway.proofs.harness import copy_tree, to_host, unique, wait_until, with_probe
from slipway.proofs.stack.clients import Clients
from slipway.proofs.stack.loadtest import LoadTest
from slipway.proofs.stack.test_deploy import DRAINING, deploy, release, url, versions, warnings
from slipway.proofs.stack.test_hardening import allowed, deviations
from slipway.proofs.stack.test_proxy import assert_guarded

pytestmark = pytest.mark.containers

SITE, SECOND = "shop.example", "billing.example"
EMAIL = "operator@shop.example"
ROOT = "caddy/pki/authorities/local/root.crt"  # the authority's own certificate


# --- nginx ---


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    tree = with_probe(copy_tree(tmp_path_factory.mktemp("nginx")))
    with faulty_production(tree, "slipway/proofs/stack/deploys.yaml", PROXY="nginx") as stack:
        yield stack


@pytest.mark.alone
def test_a_deploy_under_load_through_nginx_fails_no_request(nginx, record_property):
    with LoadTest(url(nginx), nginx.authority()) as load:
        wait_until("load", lambda: len(load.answers) > 100)
        out = deploy(nginx, release(nginx, "one"), **DRAINING).stdout
        assert versions(nginx) == ["one", "one"]
    print(out)
    record_property("figure", str(load))
    record_property("deploy", re.search(r"after ([\d.]+) s", out)[1])
    assert load.failures == [], warnings(nginx)


@pytest.mark.alone
def test_a_release_that_is_never_ready_gets_no_request_of_nginx(nginx, record_property):
    deploy(nginx, good := release(nginx, "good"))
    bad = release(nginx, "bad", "RUN echo 'raise RuntimeError(\"broken\")' >> /app/services/web/gunicorn.conf.py")
    with LoadTest(url(nginx), nginx.authority()) as load:
        wait_until("load", lambda: len(load.answers) > 50)
        run = deploy(nginx, bad, check=False, DEPLOY_TIMEOUT="10", **DRAINING)
    record_property("figure", str(load))
    assert f"Release {good} serves" in run.stderr
    assert load.failures == [], warnings(nginx)


@pytest.mark.alone
def test_a_replica_that_dies_costs_no_request_that_never_reached_it(nginx, record_property):
    clients = 8
    with Load(f"{url(nginx)}/probe/rows", threads=clients, certificate=nginx.authority()) as load:
        wait_until("load", lambda: len(load.answers) > 50)
        nginx.compose("kill", "web-a")
        before = len(load.answers)
        wait_until("requests without it", lambda: len(load.answers) > before + 300)
        nginx.compose("up", "--detach", "--wait", "web-a")
    record_property("figure", f"{len(load.answers)} requests, {load.errors} failed, slowest {load.slowest:.2f} s")
    assert load.errors <= clients  # those that were in it
    assert load.slowest < 3


@pytest.mark.alone
def test_certificates_from_files_are_served_and_no_authority_is_asked(nginx, tmp_path):
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=localhost -addext"
    files = "-keyout /files/live/localhost/privkey.pem -out /files/live/localhost/fullchain.pem"
    made = f"mkdir -p /files/live/localhost && {make} subjectAltName=DNS:localhost {files}"
    tmp_path.chmod(0o777)
    image = nginx.container("proxy")["Config"]["Image"]
    nginx.run("docker", "run", "--rm", "--volume", f"{tmp_path}:/files", image, "sh", "-c", made)
    up = ("up", "--detach", "--wait", "--no-deps", "certificates", "proxy")
    nginx.environment["CERTIFICATES"] = str(tmp_path)
    try:
        nginx.compose(*up)
        own = nginx.compose("exec", "-T", "proxy", "cat", "/certificates/live/localhost/fullchain.pem").stdout
        with httpx.Client(verify=ssl.create_default_context(cadata=own), trust_env=False) as client:
            assert client.get(f"{url(nginx)}/version").status_code == 200
        assert f"those in {tmp_path}" in nginx.log("certificates")
    finally:
        del nginx.environment["CERTIFICATES"]
        nginx.compose(*up)


@pytest.mark.alone
def test_it_and_the_client_for_its_certificates_are_hardened_as_all_else_is(nginx):
    assert set(deviations(nginx)) == allowed("nginx")


# --- Certificates, and the change from one to the other ---


class Site(Faulty):
    """Production under a public name, on an address of its own, where it has the ports that an authority asks on."""

    def use(self, proxy: str) -> None:
        overlays = ["acme.yaml", *(["acme.nginx.yaml"] if proxy == "nginx" else [])]
        files = ["compose/base.yaml", "compose/prod.yaml", f"compose/proxy.{proxy}.yaml", "compose/web.yaml"]
        self.environment["PROXY"] = proxy
        self.environment["COMPOSE_FILE"] = ":".join([*files, *(f"slipway/proofs/stack/{each}" for each in overlays)])

    def certificate(self, name: str) -> str:
        """What the site shows for this name, in PEM; fails unless the authority has signed it."""
        where = self.environment["PUBLISH_ADDRESS"], 443
        context = ssl.create_default_context(cadata=self.root)
        with socket.create_connection(where, 5) as plain, context.wrap_socket(plain, server_hostname=name) as secured:
            return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True))

    def get(self, path: str) -> httpx.Response:
        context = ssl.create_default_context(cadata=self.root)
        with httpx.Client(verify=context, trust_env=False) as client:
            return client.get(f"https://{self.environment['PUBLISH_ADDRESS']}{path}", **to_host(SITE))

    @property
    def root(self) -> str:
        return self.compose("exec", "-T", "authority", "cat", f"/data/{ROOT}").stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    tree = with_probe(copy_tree(tmp_path_factory.mktemp("acme")))
    (authority := tmp_path_factory.mktemp("authority")).chmod(0o777)
    caddyfile = tree / "docker/proxy/caddy/Caddyfile"
    ours = f"{{\n\tacme_ca https://authority/acme/local/directory\n\tacme_ca_root /authority/{ROOT}"
    caddyfile.write_text(re.sub(r"^\{$", ours, caddyfile.read_text(), count=1, flags=re.MULTILINE))
    address = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}.1"
    stack = Site(
        tree, unique("acme"), AUTHORITY=authority, COMPOSE_ENV_FILES=".env", ACME_EMAIL=EMAIL,
        SITE_ADDRESS=SITE, PUBLISH_ADDRESS=address, HTTP_PORT=80, HTTPS_PORT=443,
    )  # fmt: skip
    stack.use("caddy")
    try:
        stack.make("init")
        with (tree / ".env").open("a") as settings:
            settings.write("ROBOTS=disallow\nSECURITY_CONTACT=mailto:security@shop.example\n")
        stack.compose("up", "--detach", "--wait", "authority")
        stack.compose("up", "--build", "--detach", "--wait")
        yield stack
    finally:
        stack.destroy()


def test_caddy_gets_its_certificate_from_an_authority(site):
    assert wait_until("a certificate", lambda: site.certificate(SITE), 60)
    account = site.compose("exec", "-T", "proxy", "sh", "-c", "cat /data/caddy/acme/*/users/*/*.json").stdout
    assert f"mailto:{EMAIL}" in account


def test_crawlers_and_researchers_learn_through_caddy_what_settings_say(site):
    assert_told(site)


def assert_told(site):
    wait_until("a certificate", lambda: site.certificate(SITE), 60)
    robots, security, page = (site.get(path) for path in ("/robots.txt", "/.well-known/security.txt", "/version"))
    assert robots.text == "User-agent: *\nDisallow: /\n"
    assert re.fullmatch(r"Contact: mailto:security@shop\.example\nExpires: \d{4}-\S+Z\n", security.text)
    for answer in (robots, security, page):
        assert answer.headers.get_list("x-robots-tag") == ["noindex"]
        assert_guarded(answer)


def test_nginx_takes_caddys_place_under_load_with_its_certificate(site, record_property):
    wait_until("a certificate", lambda: site.certificate(SITE), 60)
    before = site.certificate(SITE)
    change(site, "nginx", record_property)
    assert site.certificate(SITE) == before
    assert "nginx" in site.container("proxy")["Config"]["Image"]


def test_crawlers_and_researchers_learn_through_nginx_what_settings_say(site):
    assert_told(site)


def change(site, proxy, record_property):
    """From one proxy to the other, by a deploy under load that fails no request."""
    with Clients(site.root, 443, site.environment["PUBLISH_ADDRESS"], SITE) as clients:
        wait_until("load", lambda: clients.total > 50)
        site.use(proxy)
        deploy(site, "local")
        after = clients.total
        wait_until("requests after it", lambda: clients.total > after + 100)
    record_property("figure", str(clients))
    assert clients.failed == []


def test_a_new_site_gets_its_certificate_through_nginx(site):
    sites = site.directory / "docker/proxy/nginx/sites"
    sites.mkdir(exist_ok=True)
    lines = f"server {{\n    server_name {SECOND};\n    include site.conf;\n    include services/*.conf;\n}}\n"
    (sites / "second.conf").write_text(lines)
    site.make("proxy-reload")
    assert wait_until("a certificate", lambda: site.certificate(SECOND), 90)
    accounts = "cat /certificates/acme/accounts/*/registration_info.json"
    assert f"mailto:{EMAIL}" in site.compose("exec", "-T", "certificates", "sh", "-c", accounts).stdout


def test_a_renewed_certificate_is_taken_up_without_a_restart(site):
    before, began = site.certificate(SITE), site.container("proxy")["State"]["StartedAt"]
    site.compose("exec", "-T", "certificates", "/opt/slipway/proxy/certificates.sh", "renew")
    wait_until("the new one", lambda: site.certificate(SITE) != before, 60)
    assert site.container("proxy")["State"]["StartedAt"] == began


def test_caddy_takes_nginxs_place_under_load(site, record_property):
    change(site, "caddy", record_property)
    names = {c["Config"]["Labels"]["com.docker.compose.service"] for c in site.containers()}
    assert "certificates" not in names
    assert site.certificate(SITE)
