"""Shows an exception as a readable page, or as plain text to clients that did not ask for HTML."""

import linecache
import os
import re
import reprlib
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple
from wsgiref.types import StartResponse, WSGIEnvironment

from jinja2 import Environment, FileSystemLoader
from werkzeug.datastructures import EnvironHeaders, MIMEAccept
from werkzeug.http import parse_accept_header

from devserver import sql

FORM = "devserver.form"  # in the environ: the form, if the app has parsed it
AROUND = 5  # lines before and after the marked one
SECRET = re.compile(r"pass|secret|token|key|cookie|authorization|session|credential", re.IGNORECASE)
MASK = "••••••"

templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
shortened = reprlib.Repr()
shortened.maxstring = shortened.maxother = 200  # characters
shortened.maxlist = shortened.maxdict = 20


class Line(NamedTuple):
    number: int
    text: str
    marked: bool


class Frame(NamedTuple):
    place: str  # from the repository's root if it is ours
    number: int
    function: str
    ours: bool
    lines: list[Line]
    variables: dict[str, str]


def wanted(environ: WSGIEnvironment) -> bool:
    """Whether the client wants the page: a program that asks for nothing but JSON gets the app's own answer."""
    return "html" in preferred(environ) or environ.get("HTTP_ACCEPT", "*/*").strip() in ("", "*/*")


def preferred(environ: WSGIEnvironment) -> str:
    accept = parse_accept_header(environ.get("HTTP_ACCEPT", ""), MIMEAccept)
    return accept.best_match(["text/plain", "text/html", "application/json"], "") or "" if accept else ""


class Broken:
    """Stands in for an app that can't start: answers every request with 500 and the reason."""

    def __init__(self, root: Path, error: BaseException, hints: list[str]) -> None:
        self.root, self.error, self.hints = root, error, hints

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        kind, body = answer(self.root, self.error, environ, title="The app can't start", hints=self.hints)
        headers = [("Content-Type", kind), ("Cache-Control", "no-store"), ("Content-Length", str(len(body)))]
        start_response("500 Internal Server Error", headers)
        return [body]


def of_request(
    root: Path,
    error: BaseException,
    environ: WSGIEnvironment,
    request_id: str,
    statements: list[sql.Statement],
    **context: Any,
) -> tuple[str, bytes]:
    """The page, or the text, of what a view raised: its content type and its bytes."""
    return answer(
        root,
        error,
        environ,
        title="Unexpected error",
        request_id=request_id,
        request={"Headers": headers(environ), "Form": masked(environ.get(FORM, {}))},
        statements=statements,
        repeated=sql.repeated(statements),
        summary=sql.summary(statements),
        **context,
    )


def answer(root: Path, error: BaseException, environ: WSGIEnvironment, **context: Any) -> tuple[str, bytes]:
    if preferred(environ) != "text/html":
        return "text/plain; charset=utf-8", text(error, context).encode("utf-8", "replace")
    found = frames(root, error)
    page = templates.get_template("error.html").render(
        kind=type(error).__name__,
        message=str(error) or "no message",
        # By its name: the app may have loaded a chassis of its own, as it is saved now.
        errors=getattr(error, "errors", None) if type(error).__name__ == "SettingsError" else None,
        method=environ["REQUEST_METHOD"],
        path=environ.get("RAW_URI") or environ.get("PATH_INFO", ""),
        frames=[frame for frame in found if frame.ours] or found[:1],
        stack="".join(traceback.format_exception(error)),
        **context,
    )
    return "text/html; charset=utf-8", page.encode("utf-8", "replace")


def text(error: BaseException, context: dict[str, Any]) -> str:
    lines = [*traceback.format_exception(error), *(f"\n{hint}\n" for hint in context["hints"])]
    if context.get("request_id"):
        lines.append(f"\nrequest id: {context['request_id']}\n")
    if statements := context.get("statements"):
        lines.append(f"SQL: {context['summary']}\n")
        lines += [f"  {each.milliseconds:6.1f} ms  {' '.join(each.text.split())}\n" for each in statements]
    return "".join(lines)


def frames(root: Path, error: BaseException) -> list[Frame]:
    """The frames, innermost first: of the error, then of what it was raised from."""
    found: list[Frame] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, SyntaxError) and current.filename and current.lineno:
            found.append(frame(root, current.filename, current.lineno, "", None))
        found += reversed([frame(root, *each) for each in walk(current.__traceback__)])
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return found


def walk(trace: TracebackType | None) -> list[tuple[str, int, str, FrameType]]:
    steps = []
    while trace:
        code = trace.tb_frame.f_code
        steps.append((code.co_filename, trace.tb_lineno, code.co_name, trace.tb_frame))
        trace = trace.tb_next
    return steps


def frame(root: Path, path: str, number: int, function: str, where: FrameType | None) -> Frame:
    ours = path.startswith(tuple(f"{root}/{each}/" for each in ("libs", "services", "slipway/chassis")))
    linecache.checkcache(path)
    return Frame(
        os.path.relpath(path, root) if ours else path,
        number,
        "" if function == "<module>" else function,
        ours,
        around(path, number),
        variables(where) if where and ours else {},
    )


def around(path: str, number: int) -> list[Line]:
    numbers = range(max(1, number - AROUND), number + AROUND + 1)
    lines = [Line(each, linecache.getline(path, each).rstrip("\n"), each == number) for each in numbers]
    while lines and not lines[-1].text and not lines[-1].marked:
        lines.pop()
    return lines


def variables(where: FrameType) -> dict[str, str]:
    """The local variables, shortened; a module's are its whole namespace, and tell nothing."""
    if where.f_code.co_name == "<module>":
        return {}
    return {name: MASK if SECRET.search(name) else represented(value) for name, value in where.f_locals.items()}


def represented(value: object) -> str:
    try:
        return shortened.repr(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def headers(environ: WSGIEnvironment) -> dict[str, str]:
    return masked(dict(EnvironHeaders(environ)))


def masked(values: dict[str, Any]) -> dict[str, str]:
    def shown(value: Any) -> str:
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    return {name: MASK if SECRET.search(name) else shown(value) for name, value in values.items()}
