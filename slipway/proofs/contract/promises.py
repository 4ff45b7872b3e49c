"""Promises that any image of a web app should keep, one function for each; the numbers are those of docs/promises.md.

A function returns when the promise is kept, sometimes with a note on how well. It raises Broken with what was
observed, and NotJudged if the promise could not be checked.
"""

import json
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from slipway.proofs.contract.container import NotServing, Stop, shown, until
from slipway.proofs.contract.contents import File, secrets_in_text
from slipway.proofs.contract.subject import CROWD, KILLED, Subject, as_options

UNREACHED = "let SIGTERM reach the server: see 14"
AT_ONCE = 2.0  # seconds
LOGGED = 5.0  # seconds for a request to show up in the log
ORDINARY_REQUESTS = 20


@dataclass(frozen=True)
class Promise:
    number: int
    group: str
    text: str
    advice: str
    judge: Callable[[Subject], str | None]

    @property
    def name(self) -> str:
        return self.judge.__name__


class Broken(Exception):
    """What was observed, and what to do about it if the promise's own advice does not fit."""

    def __init__(self, seen: str, advice: str = "") -> None:
        super().__init__(seen)
        self.seen, self.advice = seen, advice


class NotJudged(Exception):
    """Why the promise can't be checked."""


PROMISES: list[Promise] = []
OURS: list[Promise] = []  # of this repository's images; other images are not judged by them


def promise(number: int, group: str, text: str, advice: str, listed: list[Promise] = PROMISES) -> Callable:
    def register(judge: Callable[[Subject], str | None]) -> Callable[[Subject], str | None]:
        listed.append(Promise(number, group, text, advice, judge))
        return judge

    return register


@promise(1, "Image", "It runs as a numeric user that is not root", "add `USER 10001:10001`")
def it_runs_as_a_numeric_user_that_is_not_root(subject: Subject) -> str:
    given = subject.config.get("User") or ""
    user = given.partition(":")[0]
    if user in ("", "root", "0"):
        raise Broken(f"runs as root (User is {given or 'empty'})")
    if not user.isdecimal():
        raise Broken(
            f"runs as {user}, a name: Kubernetes' runAsNonRoot can't tell that it is not root",
            "write the user's number: `USER 10001:10001`",
        )
    return given


@promise(
    2,
    "Image",
    "Its base image has a version, not `latest`",
    "write `FROM name:version`, and the same in the label org.opencontainers.image.base.name",
)
def its_base_image_has_a_version(subject: Subject) -> str:
    base = subject.labels.get("org.opencontainers.image.base.name", "")
    if not base:
        raise NotJudged("no label org.opencontainers.image.base.name says what the image is based on: add it")
    tag = PurePosixPath(base).name.partition("@")[0].partition(":")[2]
    if "@sha256:" not in base and tag in ("", "latest"):
        raise Broken(f"is based on {shown(base)}")
    return shown(base)


@promise(
    3,
    "Image",
    "Its health check passes while it serves, and fails on any answer but 200",
    "make the command exit 1 unless the status is 200: `curl -f`, or a few lines of Python",
)
def its_health_check_fails_on_a_non_200(subject: Subject) -> None:
    if not subject.health_check:
        raise Broken("has no HEALTHCHECK", "add one that asks the readiness route: `HEALTHCHECK CMD …`")
    if not until(lambda: subject.app.exec(*subject.health_check) == 0, KILLED):
        raise Broken(
            "the check fails on the app itself, which serves",
            f"run it by hand: `docker exec CONTAINER {shown(' '.join(subject.health_check))}`",
        )
    for status in (503, 404):
        with subject.stand_in(status) as server:
            if subject.check_health_of(server):
                raise Broken(f"the check passes although the server answers {status}")
    # It may have failed for another reason than the status.
    with subject.stand_in(200) as server:
        if not subject.check_health_of(server):
            raise NotJudged("the check passes on the app and fails on a stand-in, even on one that answers 200")


@promise(
    4,
    "Image",
    "No file in it is setuid or setgid",
    "add `RUN find / -xdev -type f -perm /6000 -exec chmod a-s {} +`",
)
def no_file_is_setuid_or_setgid(subject: Subject) -> None:
    expect_none("setuid or setgid", (f"/{file.path}" for file in subject.files if file.regular and file.mode & 0o6000))


@promise(
    5,
    "Image",
    "No secret is in its history, environment or layers",
    "give it at run time, or to the build as `RUN --mount=type=secret`; then replace it, for it is known now",
)
def no_secret_is_in_its_history_environment_or_layers(subject: Subject) -> None:
    present = {file.path for file in subject.files}
    in_layers = [
        f"{what} in /{path}" + ("" if path in present else " (deleted later, a layer still holds it)")
        for path, what in subject.secrets_in_layers.items()
    ]
    in_text = {}
    for where, texts in (
        ("environment", [f"{name}={value}" for name, value in subject.environment.items()]),
        ("history", subject.history),
    ):
        for text in texts:
            for name in secrets_in_text(text):
                in_text.setdefault(name, f"{name} in the {where}")
    expect_none("holds", [*in_text.values(), *in_layers])


LEFTOVERS = {
    "a compiler": r"(.*/)?s?bin/([\w]+-linux-(gnu|musl)-)?(gcc|g\+\+|cc|c\+\+|clang|make|rustc|cargo|go)(-[\d.]+)?",
    "uv": r"(.*/)?bin/uvx?",
    "a package cache": r"(.*/)?\.cache/(pip|uv|pypoetry)/.+|var/cache/(apt/archives/.+\.deb|apk/.+)",
    "apt's lists": r"var/lib/apt/lists/.*_(Packages|Sources|Release|InRelease|Translation-\w+)(\.\w+)?",
    "a repository": r"(.*/)?\.git/HEAD",
    "tests": r"(.*/)?tests?/.*\.py|(.*/)?(conftest|test_\w+|\w+_test)\.py",
}
# Libraries bring tests of their own.
NOT_THE_APPS = re.compile(r"(.*/)?(site-packages|dist-packages|node_modules|lib/python\d[\d.]*)/|usr/(lib|share|src)/")


@promise(
    6,
    "Image",
    "It holds no compiler, uv, package cache, apt lists, .git or tests",
    "build in an earlier stage and copy the result; list in .dockerignore what no image needs",
)
def it_holds_nothing_that_only_a_build_needs(subject: Subject) -> None:
    present = [file.path for file in subject.files if not file.directory]
    found = []
    for what, pattern in LEFTOVERS.items():
        search = re.compile(pattern).fullmatch
        paths = (path for path in present if search(path) and not (what == "tests" and NOT_THE_APPS.match(path)))
        if first := next(paths, None):
            found.append(f"{what} (/{first})")
    expect_none("holds", found)


@promise(
    7,
    "Image",
    "Its code belongs to root, and its user can't write to it",
    "COPY without --chown, and set USER after that; what the app must write goes to a volume or /tmp",
)
def its_code_is_not_writable_by_its_user(subject: Subject) -> str:
    roots = code_directories(subject)
    inside = tuple(f"{root}/" for root in roots)
    above = {str(parent) for root in roots for parent in PurePosixPath(root).parents}
    code = [file for file in subject.files if file.path in roots | above or file.path.startswith(inside)]
    if not code:
        raise NotJudged("no WORKDIR and no site-packages tell where its code is")
    uid, gid = user_ids(subject)
    if uid == 0:
        raise Broken("its user is root, who can write to everything", "add `USER 10001:10001`")
    expect_none("does not belong to root:", (f"/{file.path}" for file in code if file.uid != 0))
    expect_none("its user can write to", (f"/{file.path}" for file in code if writable(file, uid, gid)))
    return ", ".join(f"/{root}" for root in sorted(roots))


def code_directories(subject: Subject) -> set[str]:
    """WORKDIR, PYTHONPATH, virtual environments, site-packages; without directories inside another of them."""
    named = [subject.config.get("WorkingDir") or "", *subject.environment.get("PYTHONPATH", "").split(":")]
    found = {path.strip("/") for path in named}
    for file in subject.files:
        if file.name == "pyvenv.cfg":
            found.add(str(PurePosixPath(file.path).parent))
        elif file.directory and file.name == "site-packages":
            found.add(file.path)
    found -= {"", ".", "tmp"}
    return {path for path in found if not any(path.startswith(f"{other}/") for other in found)}


def user_ids(subject: Subject) -> tuple[int, int]:
    """The numbers of the image's user and group."""
    user, _, group = (subject.config.get("User") or "0").partition(":")
    for line in subject.passwd.splitlines():
        name, _, uid, gid, *_ = line.split(":")
        if user in (name, uid):
            return int(uid), int(group if group.isdecimal() else gid)
    return int(user) if user.isdecimal() else -1, int(group) if group.isdecimal() else 0


def writable(file: File, uid: int, gid: int) -> bool:
    if file.link:
        return False
    return bool(file.mode & 0o002 or (file.gid == gid and file.mode & 0o020) or (file.uid == uid and file.mode & 0o200))


@promise(
    8,
    "Image",
    "Its command is in exec form, and it is stopped by SIGTERM",
    'write `CMD ["program", "argument"]`: a shell in between keeps signals to itself',
)
def its_command_is_in_exec_form_and_stopped_by_sigterm(subject: Subject) -> None:
    for kind in ("Entrypoint", "Cmd"):
        script = shell_script(subject.config.get(kind) or [])
        if script and not script.lstrip().startswith("exec "):
            raise Broken(f"{kind.upper()} is in shell form: {shown(script, 80)}")
    if not (subject.config.get("Entrypoint") or subject.config.get("Cmd")):
        raise Broken("has neither ENTRYPOINT nor CMD")
    stop = (subject.config.get("StopSignal") or "SIGTERM").removeprefix("SIG")
    if stop not in ("TERM", "15"):
        raise Broken(
            f"STOPSIGNAL is SIG{stop}, which to gunicorn and others means to drop what is in flight"
            if stop in ("INT", "QUIT")
            else f"STOPSIGNAL is {stop}",
            "write `STOPSIGNAL SIGTERM`, the graceful stop",
        )


def shell_script(command: list[str]) -> str:
    """What the shell is told to run, if the command is a shell."""
    shell = PurePosixPath(command[0]).name if command else ""
    return command[-1] if shell in ("sh", "bash", "dash", "ash") and "-c" in command[:-1] else ""


@promise(
    9,
    "Image",
    "Any command can replace the default, and its exit code comes through",
    'end the entrypoint in `exec "$@"`, and keep the server in CMD',
)
def any_command_can_replace_the_default(subject: Subject) -> None:
    command = hello(subject)
    run = subject.command(*command)
    if run is None:
        raise Broken(f"`docker run IMAGE {shlex.join(command)}` does not end: the command is ignored")
    if "hello" not in run.stdout.splitlines():
        raise Broken(f"`docker run IMAGE {shlex.join(command)}` says: {last_said(run)}")
    if run.returncode != 3:
        raise Broken(f"a command that exits with 3 becomes an exit with {run.returncode}")


@promise(
    164,
    "Image",
    "A command that begins with an option belongs to the default command",
    "set DEFAULT_COMMAND beside the ENTRYPOINT, for chassis.process.entrypoint to put before options",
    OURS,
)
def options_belong_to_the_default_command(subject: Subject) -> None:
    run = subject.command("--help")
    if run is not None and run.returncode in (126, 127):
        raise Broken(f"`docker run IMAGE --help` says: {last_said(run)}")


@promise(
    10,
    "Image",
    "Its labels name the version, the revision and the source",
    "add `LABEL org.opencontainers.image.version=$VERSION`, `.revision=$REVISION` and `.source=https://…`",
)
def its_labels_name_the_version_the_revision_and_the_source(subject: Subject) -> str:
    names = ("version", "revision", "source")
    values = {name: subject.labels.get(f"org.opencontainers.image.{name}", "") for name in names}
    for name, value in values.items():
        if not value:
            raise Broken(f"has no label org.opencontainers.image.{name}")
        if value in ("unknown", "unversioned"):
            raise Broken(f"its {name} is {value!r}", f"build with `--build-arg {name.upper()}=…`")
    if "@" in urlsplit(values["source"]).netloc:
        raise Broken("its source has a login in its address", "take the login out: everyone who has the image sees it")
    return " ".join(shown(value) for value in values.values())


@promise(
    14,
    "Process",
    "PID 1 passes signals on and reaps orphans",
    'put an init first, `ENTRYPOINT ["tini", "--"]`, and let every script on the way `exec` the next',
)
def pid_1_passes_signals_on_and_reaps_orphans(subject: Subject) -> None:
    left = subject.app.beside("orphan")
    if not left["reaped"]:
        raise Broken(f"an orphan stays a zombie: PID 1, `{shown(left['init'], 60)}`, does not reap it")
    if subject.idle_stop.seconds is None:
        raise Broken(f"SIGTERM does not reach the server: PID 1 is `{shown(left['init'], 60)}`")
    code = code_of_a_command_that_is_stopped(subject) if has_shell(subject) else 42
    if code not in (42, None):
        raise Broken(f"SIGTERM does not reach a command that replaces the default: its exit code is {code}, not 42")


def code_of_a_command_that_is_stopped(subject: Subject) -> int | None:
    """The exit code of a program that ends with 42 on SIGTERM; None if the image can't run it."""
    script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.1; done"
    container = subject.run(subject.image, "sh", "-c", script, options=as_options(subject.given))
    try:
        if not until(lambda: "ready" in container.logs()[0] or not container.running, LOGGED):
            return None
        return (container.stop("TERM", LOGGED).code or 137) if container.running else None
    finally:
        container.remove()


@promise(
    15,
    "Process",
    "SIGTERM finishes every request in flight, and the end is prompt and clean",
    "let the server stop gracefully: gunicorn with gthread does, given a direct SIGTERM and enough graceful_timeout",
)
def sigterm_finishes_every_request_in_flight(subject: Subject) -> str:
    stop, limit = subject.idle_stop, subject.stop_limit
    if stop.seconds is None:
        raise Broken(f"with nothing to do, it still runs {KILLED:g} s after SIGTERM", UNREACHED)
    if stop.seconds > limit:
        raise Broken(f"with nothing to do, it takes {stop.seconds:.1f} s to stop; {limit:.1f} s is the most")
    expect_clean("with nothing to do", stop)
    return f"{finishes_what_is_in_flight(subject, 'TERM')}; with nothing to do, {stop.seconds:.1f} s"


@promise(
    16,
    "Process",
    "SIGINT does the same",
    "give SIGINT the handler of SIGTERM: to Python and to many a server it means to drop everything",
)
def sigint_does_the_same(subject: Subject) -> str:
    return finishes_what_is_in_flight(subject, "INT")


def finishes_what_is_in_flight(subject: Subject, name: str) -> str:
    stop = subject.busy_stop(name)
    if stop.answered < stop.sent:
        if subject.wanted.slow:
            raise Broken(f"SIG{name} loses {stop.sent - stop.answered} of {stop.sent} requests in flight")
        raise Broken(f"SIG{name} loses a request that is being sent (SLOW=/path judges by a slow route, {CROWD} times)")
    if stop.seconds is None:
        raise Broken(f"SIG{name} does not stop it, though its requests are answered")
    expect_clean("after the last answer", stop)
    return f"{stop.answered} of {stop.sent} answered"


def expect_clean(when: str, stop: Stop) -> None:
    if stop.code != 0:
        raise Broken(f"{when}, it exits with {stop.code}", "exit with 0: a supervisor takes anything else for a crash")


@promise(
    17,
    "Process",
    "Readiness turns 503 before the listener closes",
    "on SIGTERM answer 503 at the readiness route for some seconds, and stop only then: a proxy needs to notice",
)
def readiness_turns_503_before_the_listener_closes(subject: Subject) -> str:
    if not subject.health:
        raise NotJudged("no readiness route is known, and /health/ready is none: name it with HEALTH=/path")
    if subject.idle_stop.seconds is None:
        raise Broken("SIGTERM has no effect", UNREACHED)
    answers = subject.idle_stop.readiness
    open_until = answers.index(None) if None in answers else len(answers)
    if 503 not in answers[:open_until]:
        raise Broken(f"SIGTERM closes the listener while {subject.health} still says 200")
    return f"{answers[:open_until].count(503)} answers of 503"


@promise(
    18,
    "Process",
    "A second SIGTERM stops it at once",
    "restore the default handler at the first SIGTERM: who asks twice does not want to wait",
)
def a_second_sigterm_stops_it_at_once(subject: Subject) -> str:
    if subject.idle_stop.seconds is None:
        raise Broken("SIGTERM has no effect", UNREACHED)
    with subject.serving(DRAIN_DELAY="30") as container, container.half_a_request():
        container.wait_until_accepted(1)
        container.signal("TERM")
        until(lambda: container.status(subject.probe, timeout=0.5) != subject.well, 1)  # it has arrived
        if not container.running:
            raise NotJudged("the first one already ends it, with a request in flight")
        stop = container.stop("TERM", AT_ONCE)
    if stop.seconds is None:
        raise Broken(f"with a request in flight, it still runs {AT_ONCE:g} s after the second SIGTERM")
    return f"{stop.seconds:.1f} s"


@promise(
    19,
    "Process",
    "A killed worker is replaced while its siblings serve",
    "run two workers or more under a master that replaces them: gunicorn's `workers`",
)
def a_killed_worker_is_replaced_while_its_siblings_serve(subject: Subject) -> str:
    lost = []
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(subject.app.beside, "replace")
        while not killing.done():
            if (status := subject.app.status(subject.probe)) != subject.well:
                lost.append(status)
            time.sleep(0.01)
    seen = killing.result()
    if seen["workers"] < 2:
        raise NotJudged("one process serves, so that it has no siblings")
    if not seen["replaced"]:
        raise Broken(f"of {seen['workers']} workers one was killed, and none took its place")
    # One request may have been the killed worker's own.
    if len(lost) > 1:
        raise Broken(f"{len(lost)} requests were lost when one of {seen['workers']} workers was killed")
    return f"1 of {seen['workers']}, after {seen['seconds']:.2f} s"


# Requests that break other log formats: each `%s` is a word to find them by.
HOSTILE = (
    b"GET /%s?a=%%0d%%0a%%1b[31m%%ff%%00 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: \x1b[31mred\x1b[0m\r\n\r\n",
    b"GET /%s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: \xff\xfe\xc3\x28 \xe2\x80\xa8 \x85\r\n\r\n",
    b"GET /%s\xff\xfe\x1b HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b'GET /%s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ","level":"x"}{\\" \\u0000 \\x1b\r\n\r\n',
    b'GET /%s"\\}{ HTTP/1.1\r\nHost: localhost\r\nReferer: http://"\\\r\n\r\n',
    b"GET /%s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: one\rtwo\n{three}\r\n\r\n",
    b"GET /%s HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: \x1b]0;title\x07\r\n\r\n",
    b"\x16\x03\x01%s\r\n\r\n",
    b'GET /%s-last HTTP/1.1\r\nHost: localhost\r\nUser-Agent: "quoted"\r\nConnection: close\r\n\r\n',
)


@promise(
    21,
    "Process",
    "Logs are one JSON object a line on stdout, whatever the input",
    "log through one JSON formatter to stdout, the server's own lines too: a format string does not escape values",
)
def logs_are_one_json_object_a_line_on_stdout(subject: Subject) -> str:
    word = f"contract-{secrets.token_hex(4)}"
    for request in HOSTILE:
        subject.app.send((request % word.encode()).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    logged = until(lambda: any(f"{word}-last" in line for lines in subject.app.logs() for line in lines), LOGGED)
    stdout, stderr = subject.app.logs()
    if broken := [line for line in stdout if not is_object(line)]:
        raise Broken(f"{len(broken)} of {len(stdout)} lines are no JSON object: {shown(broken[0], 80)}")
    if stderr:
        raise Broken(f"{len(stderr)} lines are on stderr: {shown(stderr[0], 80)}")
    if not logged:
        raise NotJudged("the log does not mention the requests: there seems to be no access log")
    return f"{len(stdout)} lines"


def is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


FORGED = ('"},{"level":"x', "a b; DROP TABLE", "<script>", "../../etc", "x" * 500)


@promise(
    22,
    "Process",
    "A request keeps one id, from its header to the log and the answer",
    "take X-Request-ID where it is well formed, else make one; log it and return it",
)
def a_request_keeps_one_id(subject: Subject) -> None:
    sent = f"contract-{secrets.token_hex(8)}"
    returned = subject.app.get("/", headers={"X-Request-ID": sent}).headers.get("X-Request-ID")
    if returned != sent:
        raise Broken("X-Request-ID is not returned" if returned is None else "another X-Request-ID is returned")
    for forged in FORGED:
        if subject.app.get("/", headers={"X-Request-ID": forged}).headers.get("X-Request-ID") == forged:
            raise Broken(
                f"a forged X-Request-ID is returned as it came: {shown(forged, 30)}",
                "replace an id that has anything but letters, digits, `.`, `_` and `-`, or is too long",
            )
    if not until(lambda: any(sent in line for lines in subject.app.logs() for line in lines), LOGGED):
        raise Broken("the log does not name the request's id", "add the id to every log line of the request")


HARDENED = (
    "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
    "--pids-limit", "200", "--memory", "256m",
)  # fmt: skip


@promise(
    23,
    "Process",
    "It works with a read-only root file system, without capabilities, in 256 MB",
    "write nothing outside of /tmp (gunicorn: worker_tmp_dir, control_socket_disable), and bind a port over 1023",
)
def it_works_with_a_read_only_root_and_no_capabilities(subject: Subject) -> None:
    serves(subject, *HARDENED)


@promise(
    24,
    "Process",
    "It works as any user id",
    "make what it reads readable by all, and set HOME=/tmp: an unknown user has no home",
)
def it_works_as_any_user_id(subject: Subject) -> None:
    serves(subject, "--user", "54321:54321")


def serves(subject: Subject, *options: str) -> None:
    """Raises Broken unless a container with these options serves as the others do."""
    try:
        with subject.serving(*options) as container:
            for _ in range(ORDINARY_REQUESTS):
                if (status := container.status("/")) != subject.home:
                    raise Broken(f"/ answers {status or 'nothing'}, elsewhere {subject.home}: {container.last_words()}")
    except NotServing as error:
        raise Broken(str(error)) from None


def expect_none(what: str, faults: Iterable[str]) -> None:
    """Raises Broken, with the first faults and the number of the rest, if there are any."""
    faults = [shown(fault, 120) for fault in faults]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise Broken(f"{what} {', '.join(faults[:3])}{more}")


def has_shell(subject: Subject) -> bool:
    return any(file.path in ("bin/sh", "usr/bin/sh") for file in subject.files)


def hello(subject: Subject) -> tuple[str, ...]:
    """A command that prints hello and exits with 3, for what the image has: a shell, or python."""
    if has_shell(subject):
        return ("sh", "-c", "echo hello; exit 3")
    if any(file.path.endswith("/bin/python3") for file in subject.files):
        return ("python3", "-c", "print('hello'); raise SystemExit(3)")
    raise NotJudged("the image has neither a shell nor python to try it with")


def last_said(run) -> str:
    lines = (run.stderr + run.stdout).strip().splitlines() or ["nothing"]
    return shown(lines[-1], 100)
