"""`make doctor`: what goes wrong on real machines, one line each, with what to do.

`ok` is fine, `hint` works but may surprise, `BAD` blocks, and makes the exit code 1. The checks are independent
and run in parallel, so that all of them take as long as the slowest. Standard library only.
"""

import difflib
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from slipway.commands import ROOT, init
from slipway.commands.shared import connections, database, dotenv, egress, engine, listeners, proxy, pythons
from slipway.commands.shared.stop import Stop

TIMEOUT = 4  # seconds that any one query may take
ROOM = 5  # GB that images, a build cache and a small database take
MEMORY = 1.5  # GB that production takes when idle, with room for a build
SKEW = 30  # seconds that the engine's clock may be off
KERNEL = (5, 14)  # moves connections from one listening socket to another
WATCHES = 8192  # directories that inotify should be able to watch
OK, HINT, BAD = "ok", "hint", "BAD"
Finding = tuple[str, str]
# Besides what .env.example lists: compose's own settings, what the tools read or write, and the C library's time zone.
ALSO_KNOWN = {"PREVIOUS_TAG", "DEPLOY_TIMEOUT", "DEV_UID", "DEV_GID", "GUNICORN_CMD_ARGS", "TZ"}
PLACEHOLDERS = ("your.domain", "example.com", "example.org", "mydomain.com", "changeme")
SCRIPTS = (".ci/*", "docker/**/*.sh", "slipway/**/*.sh", "slipway/machine/**/*")
# File systems of another machine, or of another system on this one: they deliver no inotify events.
DEAF = {"9p", "cifs", "drvfs", "nfs", "nfs4", "prl_fs", "smb3", "vboxsf"}


def doctor() -> bool:
    """Prints the findings, and returns whether any of them blocks."""
    engine.TIMEOUT = TIMEOUT
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        findings = dict.fromkeys(finding for found in pool.map(findings_of, CHECKS) for finding in found)
    for state, text in findings:
        print(f"{state:5} {text}")
    return any(state == BAD for state, _ in findings)


def findings_of(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except (OSError, subprocess.SubprocessError, engine.NoAnswer) as error:
        return [(HINT, f"{check.__name__.replace('_', ' ')}: the check itself failed ({error})")]
    except Stop as line:
        return [(BAD, str(line))]


def tools() -> Iterator[Finding]:
    yield OK, f"Python {sys.version.split()[0]}"
    if not shutil.which("git"):
        yield HINT, "git is missing: versions and tests need it"


def python_version() -> Iterator[Finding]:
    if found := pythons.difference():
        uv, version = "uv" if shutil.which("uv") else ".cache/uv/bin/uv", pythons.image()
        yield HINT, f"{found}: `{uv} python install {version}` or `pyenv install {version}`, then rm .venv/installed"


def packages() -> Iterator[Finding]:
    """Whether the packages for tests and native runs can be downloaded, if they are not here yet."""
    if (ROOT / ".venv/installed").exists():
        return
    names = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
    index = next(filter(None, map(os.environ.get, names)), "https://pypi.org/simple/")
    if index.startswith("http") and not reachable(index):
        yield HINT, f"{index} can't be reached: UV_DEFAULT_INDEX=… names another index for `make test` and native runs"


def reachable(address: str) -> bool:
    """Whether anything answers there, even with an error."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=TIMEOUT).close()  # noqa: S310
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def the_engine() -> Iterator[Finding]:
    if problem := engine.problem():
        yield HINT, f"{problem}. Until then `make dev` and `make test` run natively"
        return
    version = engine.run("docker", "version", "--format", "{{.Server.Version}}").stdout.strip()
    compose = engine.run("docker", "compose", "version", "--short").stdout.strip()
    yield OK, f"Docker Engine {version} answers, Compose {compose}"
    if engine.run("docker", "buildx", "version").returncode:
        yield BAD, "Docker can't build with BuildKit: install the package docker-buildx-plugin"
    yield from the_engines_clock()
    yield from the_engines_disk()


def the_engines_clock() -> Iterator[Finding]:
    """A virtual machine's clock falls behind while the computer sleeps, which breaks certificates and sessions."""
    told = engine.run("docker", "info", "--format", "{{.SystemTime}}").stdout.strip()
    if match := re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\S*?(Z|[+-]\d\d:\d\d)$", told):
        there = datetime.fromisoformat(match[1] + match[2].replace("Z", "+00:00"))
        off = abs((datetime.now(UTC) - there).total_seconds())
        if off > SKEW:
            yield HINT, f"the engine's clock is {off:.0f} s off: restart Docker, or turn NTP on"


def the_engines_disk() -> Iterator[Finding]:
    root = Path(engine.run("docker", "info", "--format", "{{.DockerRootDir}}").stdout.strip() or "/nowhere")
    if root.exists() and (free := shutil.disk_usage(root).free / 1e9) < ROOM:
        yield BAD, f"{free:.1f} GB free for Docker in {root}: `docker system df` says what takes it"


def base_images() -> Iterator[Finding]:
    if engine.problem():
        return
    names = [dotenv.get("REGISTRY") + name for name in engine.bases()]
    with ThreadPoolExecutor(len(names)) as pool:
        for image, there in zip(names, pool.map(can_be_had, names), strict=True):
            if not there:
                yield BAD, f"{image} is not here and can't be pulled: `make bases`, or name a mirror, REGISTRY=mirror/"


def can_be_had(image: str) -> bool:
    with suppress(engine.NoAnswer):
        if engine.run("docker", "image", "inspect", image).returncode == 0:
            return True
        return engine.run("docker", "manifest", "inspect", image).returncode == 0
    return False


def disk() -> Iterator[Finding]:
    free = shutil.disk_usage(ROOT).free / 1e9
    yield (OK, f"{free:.0f} GB free") if free > ROOM else (BAD, f"{free:.1f} GB free here: make room, or move the tree")


def memory() -> Iterator[Finding]:
    with suppress(FileNotFoundError):
        kilobytes = re.search(r"MemAvailable: +(\d+)", Path("/proc/meminfo").read_text())
        if kilobytes and (free := int(kilobytes[1]) / 1e6) < MEMORY:
            yield HINT, f"{free:.1f} GB of memory free: builds may be killed; close something, or add swap"


def ports() -> Iterator[Finding]:
    wanted = {"DEV_PORT": "8000", "HTTP_PORT": "80", "HTTPS_PORT": "443"}
    for name, default in wanted.items():
        port = dotenv.get(name, default)
        if not port.isdigit() or not 0 < int(port) < 65536:
            yield BAD, f"{name} must be a port from 1 to 65535, not {port!r}"
        elif listeners.taken(int(port)) and (who := listeners.holder(int(port))) is not None:
            by = f" by {who}" if who else ""
            yield HINT, f"port {port} ({name}) is taken{by}: stop that, or set {name} in .env"


def environment_file() -> Iterator[Finding]:
    if not (ROOT / ".env").exists():
        yield HINT, "no .env: production needs `make init`, development does not"
        return
    known = set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    known |= {f"{name}_FILE" for name in known} | ALSO_KNOWN
    settings = dotenv.in_file()
    strange = sorted(name for name in settings.keys() - known if not name.startswith(("COMPOSE_", "UWSGI_")))
    for name in strange:
        near = difflib.get_close_matches(name, known, 1, 0.75)
        what = f"did you mean {near[0]}?" if near else "an older release's? `make docs` lists those that count"
        yield HINT, f".env sets {name}, which .env.example does not know: {what}"
    for name in ("SECRET_KEY", "DATABASE_PASSWORD"):
        if settings.get(name):
            yield BAD, f".env sets {name}, and compose names its file: take the line out, the value goes into secrets/"
    if wrong := dotenv.wrong_choice() or database.problem():
        yield BAD, wrong
    yield from site_address(settings.get("SITE_ADDRESS", ""))
    if (ROOT / ".env").stat().st_mode & 0o077:
        yield HINT, ".env can be read by others: chmod 600 .env"
    if not strange:
        yield OK, ".env sets what .env.example knows"


def site_address(address: str) -> Iterator[Finding]:
    bare = re.sub(r"^https?://", "", address)
    if not address:
        yield BAD, ".env has no SITE_ADDRESS: production's proxy does not start without; set your domain, or localhost"
    elif any(bare == each or bare.endswith(f".{each}") for each in PLACEHOLDERS):
        yield HINT, f"SITE_ADDRESS={address} is an example: no certificate comes for it; set your own domain in .env"


def database_connections() -> Iterator[Finding]:
    if too_few := connections.problem():
        yield HINT, too_few


def ways_out() -> Iterator[Finding]:
    if problem := egress.problem():
        yield BAD, problem


def kernel() -> Iterator[Finding]:
    production = ROOT / "compose/prod.yaml"
    if engine.problem() or not (ROOT / ".env").exists() or "tcp_migrate_req" not in production.read_text():
        return
    version = engine.run("docker", "version", "--format", "{{.Server.KernelVersion}}").stdout.strip()
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and tuple(map(int, numbers.groups())) < KERNEL:
        yield BAD, f"Linux {version} does not know tcp_migrate_req, 5.14 does: take sysctls out of compose/prod.yaml"


def ipv6() -> Iterator[Finding]:
    asked, possible = dotenv.in_file().get("EDGE_IPV6"), engine.has_ipv6()
    if asked == "true" and not possible:
        yield BAD, "EDGE_IPV6=true takes Docker 27 or later and IPv6 in the kernel: take it out of .env"
    elif (ROOT / ".env").exists() and possible and asked is None:
        yield HINT, "over IPv6 the app sees one address for all clients: EDGE_IPV6=true in .env, then `make up`"


def secrets() -> Iterator[Finding]:
    if not (ROOT / ".env").exists():
        return
    folder = ROOT / "secrets"
    named = init.named()
    if missing := [name for name in named if not (folder / name).exists()]:
        yield BAD, f"secrets/ lacks {', '.join(missing)}: `make init` writes it"
    else:
        yield from list(problems_of_secrets(folder, named)) or [(OK, "secrets/ is whole, and closed to others")]


def problems_of_secrets(folder: Path, named: list[str]) -> Iterator[Finding]:
    if folder.stat().st_mode & 0o077:
        yield BAD, "secrets/ can be entered by others: chmod 700 secrets"
    for name in named:
        if name not in init.GIVEN and not (folder / name).read_text().strip():
            yield BAD, f"secrets/{name} is empty: remove it, `make init` writes it again"
        elif not (folder / name).stat().st_mode & 0o004:
            yield BAD, f"secrets/{name} can't be read by the app's user in the container: chmod 644 secrets/{name}"
        if (folder / f".{name}.next").exists():
            yield HINT, f"a rotation of {name} is half-done: make rotate-secret s={name} ends it"


def backups() -> Iterator[Finding]:
    """Scheduled dumps can be read by all who may enter the folder."""
    folder = ROOT / "backups"
    if folder.exists() and folder.stat().st_mode & 0o077:
        own = "" if folder.stat().st_uid == os.getuid() else f"sudo chown {os.getuid()} backups; "
        yield BAD, f"backups/ can be entered by others, and every row is in its dumps: {own}chmod 700 backups"


def proxy_configuration() -> Iterator[Finding]:
    if (name := dotenv.get("PROXY", "caddy")) not in proxy.KINDS:
        yield BAD, f"PROXY must be {' or '.join(proxy.KINDS)}, not {name!r}"
        return
    if engine.problem() or not engine.run("docker", "compose", "ps", "--quiet", "--status", "running", "proxy").stdout:
        return
    if reason := proxy.problem():
        yield BAD, f"{proxy.kind().config}: the proxy serves with the last configuration that worked: {reason}"


def line_ends() -> Iterator[Finding]:
    scripts = (path for pattern in SCRIPTS for path in ROOT.glob(pattern) if path.is_file())
    if wrong := next((path for path in scripts if b"\r\n" in path.read_bytes()), None):
        name = wrong.relative_to(ROOT)
        yield BAD, f"{name} has Windows line ends, and no shell runs it: git config core.autocrlf input; git checkout ."


def place() -> Iterator[Finding]:
    kind = file_system()
    if str(ROOT).startswith("/mnt/") and "microsoft" in Path("/proc/version").read_text().lower():
        yield HINT, "the repository lies on a Windows drive, slow, with no inotify: move it into WSL's own file system"
    elif kind in DEAF or kind.startswith("fuse."):
        yield HINT, f"the repository lies on {kind}, which reports no saves: RELOAD=poll in .env if one is missed"
    with suppress(OSError, ValueError):
        watches = int(Path("/proc/sys/fs/inotify/max_user_watches").read_text())
        if watches < WATCHES:
            yield HINT, f"inotify may watch {watches} directories: sudo sysctl fs.inotify.max_user_watches=524288"


def file_system() -> str:
    """The type of file system that holds the repository; empty if the system does not say."""
    with suppress(OSError):
        mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
        over = [(point, kind) for point, kind in mounts if ROOT.is_relative_to(point.replace("\\040", " "))]
        return max(over, key=lambda mount: len(mount[0]))[1] if over else ""
    return ""


def owner() -> Iterator[Finding]:
    me, theirs = os.getuid(), ROOT.stat().st_uid
    if me == 0 and theirs:
        yield HINT, f"you are root, and the tree is user {theirs}'s: what make writes here will be root's"
    elif me and (foreign := foreigner(me)):
        yield BAD, f"{foreign} belongs to another user: sudo chown -R {me} {ROOT}"
    if (given := dotenv.in_file().get("DEV_UID")) and given != str(me):
        yield HINT, f".env sets DEV_UID={given}, and you are {me}: take the line out, `make dev` knows"


def foreigner(me: int) -> str:
    """The first path that belongs to another user, searched only as deep as the sources lie; empty if none does."""
    pruned = ("-name", ".git", "-o", "-name", ".venv", "-o", "-name", "data", "-o", "-name", "backups")
    theirs = ("!", "-user", str(me), "-print", "-quit")
    find = ("find", ".", "-maxdepth", "6", *theirs, "-o", "(", *pruned, ")", "-prune")
    found = subprocess.run(find, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    return found.stdout.strip().removeprefix("./")


def own_check() -> Iterator[Finding]:
    """A fork's own check, deploy/hooks/doctor: it prints a line for each problem, and its exit status is then not 0."""
    program = ROOT / "deploy/hooks/doctor"
    if not program.exists():
        return
    run = subprocess.run([program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    state = BAD if run.returncode else OK
    lines = (run.stdout + run.stderr).splitlines() or [f"deploy/hooks/doctor exited with {run.returncode}"]
    yield from ((state, line) for line in lines if line.strip())


CHECKS = (
    tools, python_version, packages, the_engine, base_images, disk, memory, ports, environment_file, ipv6,
    database_connections, ways_out, secrets, backups, kernel, proxy_configuration, line_ends, place, owner, own_check,
)  # fmt: skip
