"""`make service`, `make service-update` and `make service-remove`: adds, updates or removes a service of the monorepo.

templates.py renders its files; this module checks the request first, updates what the new files change elsewhere
(compose.yaml, the lock, the documented settings), and undoes everything if a step fails.
"""

import keyword
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from slipway.commands import ROOT, rename
from slipway.commands.shared import connections, egress, git, inventory, merge, names, native, templates
from slipway.commands.shared.compose import included, last_line
from slipway.commands.shared.inventory import Service
from slipway.commands.shared.stop import Stop

WITH_DATABASE = ("web", "asgi", "worker", "script")
# Names that already mean something to compose, Postgres, Docker, Python or the tools.
RESERVED = {
    "app", "backup", "base", "chassis", "chassis_testing", "compose", "conftest", "db", "dev", "devserver", "docker",
    "localhost", "main", "migrate", "postgres", "prod", "proxy", "public", "release", "roles", "service", "services",
    "slipway", "static", "template0", "template1", "test", "tests",
}  # fmt: skip
# Paths that belong to every service, or to the proxy.
PATHS = {"_proxy", "api", "health", "metrics", "static", "version"}
KUBERNETES = "deploy/kubernetes/services/kustomization.yaml"


def service(
    name: str = "", kind: str = "web", db: str = "", path: str = "", host: str = "", framework: str = ""
) -> None:
    """Adds a service."""
    answers = words(check(name, kind, db, path, host, framework))
    git.refuse_unless_clean()
    with git.rewriting():
        git.git("checkout", templates.render(newest := templates.newest(), answers | {"template": newest}), "--", ".")
        include(lambda files: [*files, f"compose/{name}.yaml"])
        include(lambda folders: [*folders, name], KUBERNETES)
        settle()
    added = inventory.find(name)
    print(f"The {added.kind} {name} is there:\n\n{git.changes()}\n")
    print(f"Look at it, `make test s={name}`, and commit. {WHAT_NEXT[added.kind].format(name=name)}")
    if added.serves:
        print(f"`make dev` serves it on {added.dev_url}/, the proxy at {added.host or added.path}.")
    if added.database and (too_few := connections.problem()):
        print(f"In production {too_few}.")


WHAT_NEXT = {
    "web": "Its routes are in services/{name}/src/{name}/app.py.",
    "asgi": "Its routes are in services/{name}/src/{name}/app.py.",
    "worker": "Its work is in services/{name}/src/{name}/main.py.",
    "script": "Its work is in services/{name}/src/{name}/main.py; `make run s={name}` does it here, "
    "`docker compose run --rm {name}` in production.",
    "static": "Its page is services/{name}/src/{name}/static/index.html, or what npm builds in services/{name}/ui.",
}


def check(name: str, kind: str, db: str, path: str, host: str, framework: str) -> Service:
    """The service as it would be. Raises Stop for anything that could not work."""
    if not name:
        raise Stop("name is not set: make service name=billing")
    if problem := names.problem(name) or taken(name):
        raise Stop(problem)
    if kind not in inventory.KINDS:
        raise Stop(f"kind is {kind!r}: it must be one of {', '.join(inventory.KINDS)}")
    framework = check_framework(framework, kind)
    if db not in ("", "yes", "no"):
        raise Stop(f"db is {db!r}: it must be yes or no")
    database = db == "yes" or (kind == "web" and not db)
    if database and kind not in WITH_DATABASE:
        raise Stop(f"db=yes is for the kinds {', '.join(WITH_DATABASE)}; {kind} comes without a database")
    serves = Service(name, kind).serves
    if not serves and (path or host):
        raise Stop(f"path and host are for what serves; {kind} does not")
    host = check_host(host)
    path = check_path(path or ("/" if host else f"/{name}"), host) if serves else "/"
    port = max(each.port for each in inventory.all()) + 1
    return Service(name, kind, framework, path, host, database, port)


def check_framework(framework: str, kind: str) -> str:
    if kind != "asgi" and framework:
        raise Stop(f"framework is for the kind asgi; {kind} has {'Flask' if kind in inventory.FLASK else 'none'}")
    if framework not in ("", *inventory.FRAMEWORKS):
        raise Stop(f"framework is {framework!r}: it must be one of {', '.join(inventory.FRAMEWORKS)}")
    return framework or (inventory.FRAMEWORKS[0] if kind == "asgi" else "")


def words(service: Service) -> dict[str, str | bool | int]:
    named = ("name", "kind", "database", "path", "host", "port", "serves", "prefix")
    framework = check_framework(service.framework, service.kind)  # an older service names none
    extras = filter(
        None, ["database" if service.database else "", "flask" if service.kind in inventory.FLASK else framework]
    )
    given = {name: getattr(service, name) for name in named} | {"framework": framework}
    return given | {"project": rename.current(ROOT), "extras": ",".join(extras)}


def taken(name: str) -> str | None:
    """What already has the name, as the end of a sentence."""
    if (ROOT / "services" / name).exists() or name in {each.name for each in inventory.all()}:
        return f"there is a service {name} already"
    if name in RESERVED:
        return f"{name} is reserved, since something else goes by it"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return f"{name} is a word of Python's"
    if name in sys.stdlib_module_names:
        return f"{name} is a module of Python's standard library"
    if find_spec(name) or f'name = "{name}"' in (ROOT / "uv.lock").read_text():
        return f"{name} is the name of a library that is used here"
    if clash := sorted(claimed() & {name, f"{name}-a", f"{name}-b", f"{name}-migrate", f"{name}_password"}):
        return f"{clash[0]} is in compose/*.yaml already"
    left = [path for path in own_files(name) if path.exists()]
    return f"{left[0].relative_to(ROOT)} is there already" if left else None


def claimed() -> set[str]:
    """The names of compose's services, networks, volumes and secrets."""
    texts = [path.read_text() for path in (ROOT / "compose").glob("*.yaml")]
    return {name for text in texts for name in re.findall(r"^  ([\w-]+):", text, re.MULTILINE)}


def check_host(host: str) -> str:
    if host and not inventory.HOST.fullmatch(host):
        raise Stop(f"host is {host!r}: it must be a domain in lower case, such as billing.example.com")
    if host and host in {each.host for each in inventory.all()}:
        raise Stop(f"host {host} is another service's")
    return host


def check_path(path: str, host: str) -> str:
    """The path. On a shared site it must not lie in another service's path, nor the other way around."""
    if host:
        if path != "/":
            raise Stop("path and host don't go together: on a host of its own, a service begins at /")
        return path
    if not re.fullmatch(r"(/[a-z0-9]([a-z0-9-]*[a-z0-9])?)+", path):
        raise Stop(f"path is {path!r}: it must look like /billing, in lower-case letters, digits and hyphens")
    first = path.split("/")[1]
    if first in PATHS:
        raise Stop(f"path {path} lies in /{first}, which is every service's own")
    for other in inventory.all():
        if other.serves and not other.host and other.prefix:
            if f"{path}/".startswith(f"{other.prefix}/") or f"{other.prefix}/".startswith(f"{path}/"):
                raise Stop(f"path {path} meets {other.path}, the path of {other.name}")
        elif other.kind == "web" and not other.host and other.serves and first in routes(other):
            raise Stop(f"{other.name} has routes at /{first}: take another path, such as path=/{first}-app")
    return path


def routes(service: Service) -> set[str]:
    """The first part of each path that the service's app has a route for."""
    code = (
        "import importlib, os; app = importlib.import_module(os.environ['SERVICE'] + '.app').create_app();"
        "print(*{rule.rule.split('/')[1] for rule in app.url_map.iter_rules()}, sep='\\n')"
    )
    nowhere = {"DATABASE_URL": "postgresql://x:x@127.0.0.1:1/x", "LOG_LEVEL": "ERROR"}
    environment = {**os.environ, **native.environment(service), **nowhere}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=service.directory, env=environment, capture_output=True, text=True
    )
    if run.returncode:
        raise Stop(f"{service.name} can't be asked for its routes: {last_line(run.stderr)}")
    return {part for part in run.stdout.split() if not part.startswith("<")}


def service_update(name: str = "") -> None:
    """Brings in the template's changes since; edits made meanwhile stay, or are marked as conflicts."""
    service = generated(name)
    git.refuse_unless_clean()
    newest = templates.newest()
    given = words(service) | {"template": newest}
    try:
        former = templates.render(service.template, given | {"template": service.template})
        unchanged = templates.render(service.template, given) == (new := templates.render(newest, given))
    except templates.Unknown as lacking:
        raise Stop(f"this clone lacks the templates that {service.name} was made from ({lacking})") from None
    if unchanged:
        print(f"{service.name} is as the templates have it: there is nothing new.")
        return
    with git.rewriting():
        conflicts = merge.apply(former, new, "the templates")
        if not conflicts:
            settle()
    if conflicts:
        print(f"{service.name} is up to date but for what both sides changed:\n" + "\n".join(conflicts))
        print("Mend what stands between <<<<<<< and >>>>>>>, then `make docs`, `make test`, and commit.")
    else:
        print(f"{service.name} has what the templates learnt:\n\n{git.changes()}\n\nTest it, and commit.")


def service_remove(name: str = "", yes: str = "") -> None:
    """Removes a service completely, and says what stays."""
    service = generated(name)
    git.refuse_unless_clean()
    if yes != "1" and not confirmed(name):
        raise Stop("not confirmed; nothing was changed")
    secrets = sorted(path.name for path in (ROOT / "secrets").glob(f"{name}_*"))
    with git.rewriting():
        for path in own_files(name):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        include(lambda files: [file for file in files if file != f"compose/{name}.yaml"])
        include(lambda folders: [folder for folder in folders if folder != name], KUBERNETES)
        settle()
    print(f"{name} is out of the tree:\n\n{git.changes()}\n\nCommit it. What stays, where it has run:")
    print("- containers: `docker compose up --detach --remove-orphans` ends them, and `make proxy-reload` its route")
    if service.database:
        print(f"- the database {name}, and its backups: `make psql` as postgres, then DROP DATABASE {name}; DROP ROLE")
        print(f"  {name}, {name}_owner. `make backup s={name}` first: it works for as long as the secrets are there")
    if secrets:
        print(f"- secrets: {', '.join(secrets)}, to be deleted by hand once nothing uses them")


def generated(name: str) -> Service:
    """Raises Stop unless `make service` created the service."""
    if not name:
        raise Stop("name is not set: name=billing")
    service = inventory.find(name)
    if not service.template:
        raise Stop(f"{name} was not made by `make service`: its pyproject.toml names no template")
    return service


def own_files(name: str) -> list[Path]:
    return [
        ROOT / each.format(name=name)
        for each in (
            "services/{name}",
            "compose/{name}.yaml",
            "compose/{name}.dev.yaml",
            "deploy/kubernetes/services/{name}",
            "docker/observe/targets/{name}.yml",
            "docker/observe/targets/{name}.host.json",
            "docker/proxy/caddy/services/{name}.caddy",
            "docker/proxy/caddy/sites/{name}.caddy",
            "docker/proxy/nginx/services/{name}.conf",
            "docker/proxy/nginx/sites/{name}.conf",
            "docker/proxy/nginx/upstreams/{name}.conf",
        )
    ]


def confirmed(name: str) -> bool:
    if not sys.stdin.isatty():
        raise Stop("removing a service needs confirmation, and there is no terminal: say yes=1 to go ahead")
    return input(f"Type {name} to remove the service {name}: ").strip() == name


def include(change: Callable[[list[str]], list[str]], listed: str = "compose.yaml") -> None:
    """Rewrites the list of files in compose.yaml, or another list of what each service has."""
    path = ROOT / listed
    path.write_text(included(path.read_text(), change, listed))


def settle() -> None:
    """Updates what depends on which services there are: the lock, their ways out, and the documented settings."""
    lock()
    egress.write()
    run([sys.executable, "-m", "slipway.commands", "docs"], "the settings can't be documented")


def lock() -> None:
    command = [os.environ.get("UV", "uv"), "lock", "--quiet", "--python", sys.executable]
    run(command, "the lock can't be brought up to date")


def run(command: list[str], otherwise: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Stop(f"{otherwise}, and nothing was changed: {last_line(done.stderr or done.stdout)}")
