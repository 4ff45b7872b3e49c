"""Requests that no client library would send: each is clearly refused, and the next request is served as usual."""

import json
import re
import socket
import statistics
import subprocess
import sys
import threading
import time

import pytest

from slipway.proofs.harness import ROOT, edited, wait_until
from slipway.proofs.stack.raw import Line, request

pytestmark = pytest.mark.containers

CLIENTS = 50
HEADERS_LIMIT = 5  # seconds
BODY_LIMIT = {"caddy": 70, "nginx": 15}  # seconds: of a whole body; between two parts of it
DOWNLOAD = 16 * 2**20  # bytes: more than all the buffers between the proxy and a client that reads slowly

HOST = b"Host: localhost\r\n"
POST = b"POST /probe/rows HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
SECOND = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"


def get(headers: bytes = b"", path: bytes = b"/health/live", method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    return method + b" " + path + b" HTTP/" + version + b"\r\n" + HOST + b"Connection: close\r\n" + headers + b"\r\n"


def sized(length: bytes, body: bytes = b"{}") -> bytes:
    return POST + b"Content-Length: " + length + b"\r\n\r\n" + body


def form(parts: int) -> bytes:
    each = b'--x\r\nContent-Disposition: form-data; name="field"\r\n\r\nvalue\r\n'
    body = each * parts + b"--x--\r\n"
    kind = b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n" % len(body)
    return b"POST /probe/form HTTP/1.1\r\n" + HOST + kind + body


@pytest.fixture(scope="module")
def line(proxied):
    return Line.to(proxied)


@pytest.fixture(autouse=True)
def served_as_ever(line):
    """After every test, whatever it sent."""
    yield
    began = time.monotonic()
    assert line.get("/probe/rows").statuses == [200]
    assert time.monotonic() - began < 1


# --- Two servers that disagree on where a request ends ---

SMUGGLED = {
    "two lengths that differ": POST + b"Content-Length: 2\r\nContent-Length: %d\r\n\r\n{}" % (2 + len(SECOND)) + SECOND,
    "two lengths in one": sized(b"2, 9"),
    "a length with a sign": sized(b"+2"),
    "a negative length": sized(b"-2"),
    "a hexadecimal length": sized(b"0x2"),
    "a length without end": sized(b"9" * 20),
    "a space before the colon": POST + b"Content-Length : 2\r\n\r\n{}",
    "two codings": CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SECOND,
    "one coding twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND,
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SECOND,
    "a list of codings": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SECOND,
    "a coding behind a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + SECOND,
    "a coding with a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SECOND,
    "chunks in HTTP/1.0": CHUNKED.replace(b"/1.1", b"/1.0") + b"\r\n0\r\n\r\n" + SECOND,
    "a chunk size that is no number": CHUNKED + b"\r\nzz\r\n{}\r\n0\r\n\r\n" + SECOND,
    "a negative chunk size": CHUNKED + b"\r\n-2\r\n{}\r\n0\r\n\r\n" + SECOND,
    "a chunk size over 64 bits": CHUNKED + b"\r\n" + b"f" * 17 + b"\r\n{}\r\n0\r\n\r\n" + SECOND,
    "a chunk longer than its size": CHUNKED + b"\r\n2\r\n{}XX\r\n0\r\n\r\n" + SECOND,
    "a chunk size that a bare LF ends": CHUNKED + b"\r\n2\n{}\r\n0\r\n\r\n" + SECOND,
    "a chunk with a long extension": CHUNKED + b"\r\n2;" + b"a" * 20000 + b"\r\n{}\r\n0\r\n\r\n" + get(path=b"/next"),
    "a bare CR in a value": get(b"A: a\rB: b\r\n"),
    "a bare CR for a line's end": b"GET / HTTP/1.1\r" + HOST + b"\r\n",
    "a NUL in a value": get(b"A: a\0b\r\n"),
    "a space in a name": get(b"A B: c\r\n"),
    "a line without a colon": get(b"AB\r\n"),
    "two hosts": get(b"Host: shop.example\r\n"),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a space before the request": b" " + get(),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2 without an agreement": get(version=b"2.0"),
}


# What nginx reads as HTTP says: it leaves out what it does not know, and gives the body a length of its own.
READ_BY_NGINX = {"a chunk with a long extension": [422, 404], "a line without a colon": [200], "HTTP/0.9": []}


@pytest.mark.parametrize("probe", SMUGGLED)
def test_a_smuggling_probe_is_refused_once_and_cut(proxied, line, probe):
    answer = line.send(SMUGGLED[probe])
    assert answer.closed
    if proxied.proxy == "nginx" and probe in READ_BY_NGINX:
        assert answer.statuses == READ_BY_NGINX[probe]
    else:
        assert len(answer.statuses) == 1
        assert answer.statuses[0] in (400, 501, 505)


@pytest.mark.parametrize(
    "length", [5 + len(SECOND), 3], ids=["the length hides a request", "the chunks hide a request"]
)
def test_where_length_and_chunks_disagree_chunks_count_and_nothing_after_them_is_read(line, length):
    answer = line.send(CHUNKED + b"Content-Length: %d\r\n\r\n2\r\n{}\r\n0\r\n\r\n" % length + SECOND)
    assert answer.statuses in ([422], [400])  # by Caddy, by nginx
    assert answer.closed


def test_nothing_smuggled_has_reached_the_app(proxied):
    assert "/smuggled" not in proxied.compose("logs", "web-a", "web-b").stdout


# --- Too much, or not HTTP ---

REFUSED = {
    "a body of 10 GB": (sized(b"10737418240"), {413}),
    "a body over 1 MB in chunks": (CHUNKED + b"\r\n10c8e0\r\n" + b" " * 1_100_000 + b"\r\n0\r\n\r\n", {413}),
    "a form of 1001 parts": (form(1001), {413}),
    "a header of 40 KB": (get(b"A: " + b"a" * 40_000 + b"\r\n"), {431}),
    "500 headers": (get(b"".join(b"A-%d: a\r\n" % number for number in range(500))), {431}),
    "an address of 4100 characters": (get(path=b"/" + b"a" * 4100), {414}),
    "a NUL in the path": (get(path=b"/%00"), {400, 404}),
    "a byte that is not UTF-8 in the path": (get(path=b"/%ff"), {400, 404}),
    "an escape that is none": (get(path=b"/%zz"), {400}),
    "a line's end in the path": (get(path=b"/%0d%0aA:b"), {400, 404}),
    "TRACE": (get(method=b"TRACE"), {405}),
    "CONNECT": (b"CONNECT web-a:8000 HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", {405, 421}),
    "a method that is none": (get(method=b"BREW"), {405}),
    "an absolute address": (get(path=b"https://shop.example/"), {421}),
    "an expectation that is unknown": (POST + b"Expect: tea\r\nContent-Length: 2\r\n\r\n{}", {417}),
}


@pytest.mark.parametrize("probe", REFUSED)
def test_what_is_too_much_or_not_http_is_refused(line, probe):
    data, expected = REFUSED[probe]
    answer = line.send(data, timeout=2)
    assert len(answer.statuses) == 1
    assert answer.statuses[0] in expected
    assert not re.search(rb"\r\nserver: (?!nginx\r)", answer.data.lower())


def test_of_a_body_over_the_limit_nothing_is_stored(proxied, line):
    """If the proxy's limit equalled the app's, the app would take a cut-off body for a complete one."""
    row = b'{"title": "cut short"}'
    answer = line.send(CHUNKED + b"\r\n%x\r\n" % 1_100_000 + row + b" " * (1_100_000 - len(row)) + b"\r\n0\r\n\r\n")
    assert answer.statuses == [413]
    assert proxied.sql("SELECT count(*) FROM probe WHERE title = 'cut short'") == "0"


@pytest.mark.parametrize(
    "path",
    [b"/static/../../../../etc/passwd",
     b"/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd", b"/static/..%2f..%2f..%2fetc/passwd",
     b"/static/..%5c..%5c..%5cetc/passwd", b"/static/%252e%252e%252fetc/passwd",
     b"/_proxy/..%2fCaddyfile", b"/static/..%2f..%2f..%2fetc/caddy/errors/error.12345678.css"],
)  # fmt: skip
def test_a_way_out_of_the_directory_is_a_404(line, path):
    answer = line.send(get(path=path))
    assert answer.statuses in ([404], [400])
    assert b"root:" not in answer.data
    assert b"reverse_proxy" not in answer.data


# --- Slow clients ---


def test_aborted_and_malformed_bodies_do_not_count_against_the_replicas(line):
    for _ in range(4):
        line.send(SMUGGLED["a chunk size that is no number"])
        with line.open() as connection:
            connection.sendall(CHUNKED + b"\r\n100\r\n{")
    for _ in range(20):
        began = time.monotonic()
        assert line.get("/probe/rows").statuses == [200]
        assert time.monotonic() - began < 1


class Slow:
    """A client that sends a byte a second, or no more at all, until it is cut off: when that was, and the answer."""

    def __init__(self, line: Line, first: bytes, limit: float, more: bytes = b"a") -> None:
        self.connection, self.first, self.limit, self.more = line.open(), first, limit, more
        self.began, self.seconds, self.data = time.monotonic(), None, b""
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        self.connection.settimeout(1)
        try:
            self.connection.sendall(self.first)
            while time.monotonic() < self.began + self.limit:
                try:
                    part = self.connection.recv(4096)
                except TimeoutError:
                    self.connection.sendall(self.more)
                    continue
                self.data += part
                if not part:
                    break
            else:
                return
        except OSError:
            pass
        finally:
            self.connection.close()
        self.seconds = time.monotonic() - self.began


def slowly_download(line: Line, path: str, seconds: float, received: list[bytes]) -> None:
    """Downloads through a small window, at an even pace."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    plain.connect(("127.0.0.1", line.port))
    with line.trust.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(request(path))
        began, count = time.monotonic(), 0
        while part := connection.recv(16384):
            received.append(part)
            count += len(part)
            time.sleep(max(0.0, began + seconds * count / DOWNLOAD - time.monotonic()))


def test_slow_senders_are_cut_while_others_are_served_and_a_slow_reader_gets_it_all(proxied, line):
    """Fifty of each at once, and a download that takes longer than the timeouts that cut them off."""
    limit, more = BODY_LIMIT[proxied.proxy], b"a" if proxied.proxy == "caddy" else b""
    proxied.compose(
        "run", "--rm", "--no-deps", "-T", "migrate", "python", "-c",
        f"open('/srv/static/web/static/large.00000000.bin', 'wb').write(bytes({DOWNLOAD}))",
    )  # fmt: skip
    received: list[bytes] = []
    reader = threading.Thread(
        target=slowly_download, args=(line, "/static/large.00000000.bin", limit + 10, received), daemon=True
    )
    reader.start()
    headers = [Slow(line, b"GET / HTTP/1.1\r\n" + HOST + b"A: ", HEADERS_LIMIT + 5) for _ in range(CLIENTS)]
    bodies = [Slow(line, sized(b"500", b"{"), limit + 5, more) for _ in range(CLIENTS // 2)]
    bodies += [Slow(line, CHUNKED + b"\r\n1f4\r\n{", limit + 5, more) for _ in range(CLIENTS // 2)]
    slowest = 0.0
    while any(client.thread.is_alive() for client in headers + bodies):
        began = time.monotonic()
        assert line.get("/probe/rows").statuses == [200]
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.2)
    reader.join(limit + 30)
    cut = [client.seconds or 0 for client in bodies]
    print(f"headers cut after {max(client.seconds or 0 for client in headers):.1f} s, bodies after "
          f"{min(cut):.1f} to {max(cut):.1f} s; the slowest other request took {slowest:.2f} s")  # fmt: skip
    assert all(client.seconds and client.seconds < HEADERS_LIMIT + 3 for client in headers)
    assert all(client.seconds and client.seconds < limit + 4 for client in bodies)
    assert not any(b" 200 " in client.data for client in headers + bodies)
    assert slowest < 2
    assert not reader.is_alive()
    assert len(b"".join(received).partition(b"\r\n\r\n")[2]) == DOWNLOAD


# --- Floods ---

FLOODS, STREAMS = 3, 3000  # clients, and streams a second of each


# Another client, with an address of its own: a request ten times a second, until its input ends. Prints the seconds.
OTHER = """
import select, socket, ssl, sys, time
context = ssl._create_unverified_context()
while not select.select([sys.stdin], [], [], 0.1)[0]:
    began = time.monotonic()
    plain = socket.create_connection(("listener", {port}), 15)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(b"GET /probe/rows HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n")
        answer = connection.makefile("rb").read()
    assert b" 200 " in answer.split(b"\\r\\n")[0], answer[:200]
    print(time.monotonic() - began)
"""


def in_a_flood(proxied, line, record_property, lasting: int) -> tuple[float, float]:
    """The proxy's peak memory, in percent of its limit, and the seconds of the slowest other request."""
    proxy, memory = proxied.container("proxy")["Id"], []
    flood = [sys.executable, str(ROOT / "slipway/proofs/stack/flood.py"), str(line.port), str(lasting), str(STREAMS)]
    ask = ["docker", "run", "--rm", "--interactive", "--network", f"{proxied.project}_edge"]
    ask += ["python:3.14-slim-trixie", "python", "-c", OTHER.format(port=line.port)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    clients = [subprocess.Popen(flood) for _ in range(FLOODS)]
    with subprocess.Popen(ask, **pipes) as other:
        try:
            while any(client.poll() is None for client in clients):
                told = proxied.run("docker", "stats", "--no-stream", "--format", "{{.MemPerc}}", proxy).stdout
                memory.append(float(told.strip().rstrip("%")))
        finally:
            for client in clients:
                client.kill()
                client.wait()
            said, complaint = other.communicate("", timeout=30)
    assert other.returncode == 0, complaint
    seconds = [float(each) for each in said.split()]
    others = f"others {statistics.median(seconds):.2f} s, at most {max(seconds):.2f}"
    record_property("figure", f"{others}; {max(memory):.0f} % of the proxy's memory")
    return max(memory), max(seconds)


@pytest.mark.alone
def test_a_flood_of_reset_streams_fails_no_other_request_and_takes_less_than_half_of_the_memory(
    proxied, line, record_property
):
    memory, slowest = in_a_flood(proxied, line, record_property, 12)
    assert memory < 50
    assert proxied.proxy == "caddy" or slowest < 1


@pytest.mark.alone
@pytest.mark.parametrize("proxied", ["caddy"], indirect=True)
def test_without_http_2_such_a_flood_holds_up_no_other_client_of_caddy(proxied, line, record_property):
    """Changes one line of the Caddyfile, with a reload."""
    with edited(proxied, "protocols h1 h2", "protocols h1"):
        proxied.make("proxy-reload")
        memory, slowest = in_a_flood(proxied, line, record_property, 6)
    assert memory < 50
    assert slowest < 1


# --- What reaches the app: last, since from here on the proxy forwards to another program ---

ECHO = """
import http.server, json
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(self.headers.items()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8001), Echo).serve_forever()
"""

SERVER = "    server web-{}:8000 resolve fail_timeout=1s;\n"
TO_ECHO = {
    "caddy": ("{args[0]}-a:8000 {args[0]}-b:8000", "{args[0]}-a:8001"),
    "nginx": (SERVER.format("a") + SERVER.format("b"), SERVER.format("a").replace("8000", "8001")),
}


@pytest.fixture(scope="module")
def echo(proxied, line):
    """The proxy in front of a program that returns the headers that it received."""
    proxied.compose("exec", "--detach", "web-a", "timeout", "60", "python", "-c", ECHO)

    def ask(*headers):
        body = line.get("/", *headers).data.partition(b"\r\n\r\n")[2]
        return [(name.lower(), value) for name, value in json.loads(body)]

    with edited(proxied, *TO_ECHO[proxied.proxy]):
        proxied.make("proxy-reload")
        wait_until("the echo", lambda: b'"X-Forwarded-For"' in line.get("/").data)
        yield ask
    wait_until("the app", lambda: line.get("/probe/rows").statuses == [200])


def test_forwarding_headers_from_outside_have_no_effect(proxied, echo):
    sent = echo(
        "X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 203.0.113.8", "X-Forwarded-Proto: http",
        "X-Forwarded-Host: shop.example", "X-Forwarded-Port: 1", "X-Forwarded-Prefix: /admin",
        "X-Real-IP: 203.0.113.7", "Forwarded: for=203.0.113.7;host=shop.example",
        "X_Forwarded_For: 203.0.113.9",  # the same variable in WSGI
    )  # fmt: skip
    forwarding = [(name, value) for name, value in sent if re.match("x.forwarded|x-real|forwarded", name)]
    (client,) = [value for name, value in forwarding if name == "x-forwarded-for"]
    assert not client.startswith("203.")
    assert "," not in client
    assert dict(forwarding) == {
        "x-forwarded-for": client, "x-forwarded-proto": "https", "x-forwarded-host": "localhost",
    }  # fmt: skip
    assert len(forwarding) == 3


def test_an_upgrade_to_cleartext_http_2_goes_no_further(echo):
    sent = dict(echo("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"))
    assert not {"upgrade", "http2-settings"} & sent.keys()


def test_a_folded_header_arrives_as_one_or_is_refused(proxied, line, echo):
    if proxied.proxy == "nginx":
        assert line.get("/", "A: one\r\n two").statuses == [400]
    else:
        assert ("a", "one two") in echo("A: one\r\n two")


def test_one_request_id_of_several_reaches_the_app_and_it_is_harmless(echo):
    ids = [value for name, value in echo("X-Request-ID: well-formed-1", "X-Request-ID: <b>") if name == "x-request-id"]
    assert len(ids) == 1
    assert re.fullmatch(r"[\w-]+", ids[0])
