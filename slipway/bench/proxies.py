"""Caddy and nginx as production runs them, each beside a plain one of its kind, in front of one replica, over TLS."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from slipway.bench import rig
from slipway.bench.rig import HERE, ROOT, Candidate, Load, Rig, docker
from slipway.proofs.harness import wait_until

KINDS = ("caddy", "nginx")
ROUTES = {"hello": "/bench/hello", "query": "/bench/query", "static": "/static/style.0123abcd.css"}
LIMITS = ("--cpus=1", "--memory=512m")  # those of compose
SETTINGS = {
    "HTTP_PORT": 80, "HTTPS_PORT": 443, "PROXY_CPUS": 1, "CERTIFICATES": "", "AUTOMEMLIMIT": 0.4,
    "CLIENT_REQUESTS": 1_000_000, "CLIENT_CONNECTIONS": 1000,  # counted as in production, and never reached
}  # fmt: skip


def measure(
    replica: Candidate, image: str, rounds: int, seconds: int, routes: Iterable[str] = ROUTES
) -> dict[str, list[float]]:
    """By figure, a value for each round."""
    values: dict[str, list[float]] = {}
    with Rig() as stage, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        stage.migrate(image)
        container = stage.start(replica)
        docker("network", "disconnect", stage.name, container)
        docker("network", "connect", "--alias=web-a", "--alias=web-b", stage.name, container)
        proxies = started(stage, with_a_file(Path(directory)))
        for route in routes:
            urls = {name: f"https://{name}.internal{ROUTES[route]}" for name in proxies}
            for name, url in urls.items():
                stage.load(proxies[name], url, 1)  # warm
            for _ in range(rounds):
                add(values, route, {name: stage.load(proxies[name], url, seconds) for name, url in urls.items()})
        values |= {f"{kind}_memory_mib": [rig.memory(proxies[kind])] for kind in KINDS}
    return values


def with_a_file(folder: Path) -> Path:
    """The folder, with a stylesheet under a hashed name, where each of the proxies looks for it."""
    folder.chmod(0o755)
    (folder / "static").mkdir()
    shutil.copy(ROOT / "services/web/src/web/static/style.css", folder / ROUTES["static"].removeprefix("/"))
    return folder


def started(stage: Rig, files: Path) -> dict[str, str]:
    """All four of them, by name, as containers that answer; and the one that makes nginx's certificate."""

    def run(name: str, image: str, *options: str, command: tuple[str, ...]) -> str:
        return stage.run(name, image, *LIMITS, *options, command=command)

    def named(name: str) -> str:
        return f"--network-alias={name}.internal"

    def sockets(kind: str) -> str:
        """The volume in which a listener hands out its sockets; it is reached by the name of the proxy."""
        volume = docker("volume", "create", "--label", stage.label, "--driver=local", "--opt=type=tmpfs",
                        "--opt=device=tmpfs", "--opt=o=uid=10002,mode=0700", f"{stage.name}-{kind}")  # fmt: skip
        mounts = [f"--volume={ROOT}/slipway/proxy:/opt/slipway/proxy:ro", f"--volume={volume}:/run/listener"]
        listen = ("python", "/opt/slipway/proxy/listener.py", "80", "443")
        options = ["--user=10002:10002", "--sysctl=net.ipv4.tcp_migrate_req=1", named(kind), *mounts]
        run(f"listener-{kind}", "python:3.14-slim-trixie", *options, command=listen)
        return f"--volume={volume}:/run/listener"

    ours = [f"--env={key}={value}" for key, value in SETTINGS.items()]
    ours += [f"--volume={ROOT}/slipway/proxy:/opt/slipway/proxy:ro"]
    ours += [f"--volume={ROOT}/docker/proxy/pages:/srv/pages:ro", f"--volume={files}:/srv/static/web:ro"]
    caddy = [*ours, "--env=SITE_ADDRESS=caddy.internal", f"--volume={ROOT}/docker/proxy/caddy:/etc/caddy:ro"]
    nginx = [*ours, "--env=SITE_ADDRESS=nginx.internal", f"--volume={ROOT}/docker/proxy/nginx:/etc/proxy:ro"]
    plain = [f"--volume={HERE}/reference:/etc/plain:ro", f"--volume={files}:/srv:ro"]

    certificates = docker("volume", "create", "--label", stage.label, f"{stage.name}-certificates")
    shared = ["--user=10002:10002", "--tmpfs=/tmp:uid=10002", f"--volume={certificates}:/certificates"]
    run("certificates", rig.PROXIES["nginx"], *nginx, *shared, command=("/opt/slipway/proxy/certificates.sh",))
    proxies = {
        "caddy": run("caddy", rig.PROXIES["caddy"], *caddy, sockets("caddy"), command=("/opt/slipway/proxy/caddy.sh",)),
        "plain-caddy": run("plain-caddy", "caddy:2", *plain, named("plain-caddy"),
                           command=("caddy", "run", "--config", "/etc/plain/Caddyfile")),
        "nginx": run("nginx", rig.PROXIES["nginx"], *nginx, *shared, sockets("nginx"),
                     command=("/opt/slipway/proxy/nginx.sh",)),
        "plain-nginx": run("plain-nginx", "nginx:1.30", *plain, *shared, named("plain-nginx"),
                           command=("nginx", "-c", "/etc/plain/nginx.conf", "-g", "daemon off;")),
    }  # fmt: skip
    for name in proxies:
        wait_until(f"{name} answers", lambda: stage.answers(f"https://{name}.internal/bench/hello"), 30)  # noqa: B023
    return proxies


def add(values: dict[str, list[float]], route: str, seen: dict[str, Load]) -> None:
    for kind in KINDS:
        ours, plain = seen[kind], seen[f"plain-{kind}"]
        for figure, value in (
            ("rate", ours.rate / plain.rate),
            ("cpu", ours.cpu / plain.cpu),
            ("rate_ours", ours.rate),
            ("rate_plain", plain.rate),
            ("cpu_ours", ours.cpu),
            ("cpu_plain", plain.cpu),
        ):
            values.setdefault(f"{kind}_{route}_{figure}", []).append(value)
    values.setdefault(f"nginx_over_caddy_{route}", []).append(seen["nginx"].rate / seen["caddy"].rate)
