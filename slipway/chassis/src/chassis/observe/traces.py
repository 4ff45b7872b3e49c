"""Traces: spans of requests, statements, waits for a connection and rounds of work, sent by OpenTelemetry's SDK.

Imported only where OTEL_EXPORTER_OTLP_ENDPOINT is set, through telemetry.py. Sampling, the resource, the exporter and
its queue are the SDK's, with its variables (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables).
An app's own spans are made as OpenTelemetry documents it, and become part of the same trace.
"""

import http.client
import logging
import os
import re
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import Token
from time import time_ns
from typing import TYPE_CHECKING, Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from chassis.observe import logs, routes, telemetry, version
from chassis.settings import Settings, read_dotenv

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from flask import Flask

LAST_MOMENT = 1.0  # seconds that a process which ends gives the collector
LONG_WAIT = 0.001  # seconds; a shorter wait for a connection is no span
MAX_STATEMENT = 4096  # characters
METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
# W3C Trace Context: version, trace, the caller's span, flags; neither id may be zero.
TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})").fullmatch
OUR_COMMENT = re.compile(r"/\* (?:request|trace)_id=[^*]* \*/ ").match
PORT = re.compile(r":\d*$")
SCOPE = InstrumentationScope("chassis")
PLAIN = (str, bool, int, float)


class OneResource(Resource):
    """The encoder looks each span's resource up, and the SDK's hash is one of all attributes as JSON."""

    def __hash__(self) -> int:
        return id(self)


class Span(ReadableSpan, trace.Span):
    """A span of ours; one of the SDK's takes three times as long."""

    _attributes: dict[str, Any]
    _events: list[Event]

    def __init__(
        self, name: str, own: SpanContext, parent: SpanContext | None, kind: SpanKind, attributes: Mapping[str, Any]
    ) -> None:
        super().__init__(
            name, own, parent, provider.resource, dict(attributes), [], kind=kind, start_time=time_ns(),
            instrumentation_scope=SCOPE,
        )  # fmt: skip

    def end(self, end_time: int | None = None) -> None:
        if self.is_recording():
            self._end_time = end_time or time_ns()
            _processor.on_end(self)

    def is_recording(self) -> bool:
        return self._end_time is None

    def get_span_context(self) -> SpanContext:
        assert self._context
        return self._context

    def set_attribute(self, key: str, value: Any) -> None:
        self._attributes[key] = value if isinstance(value, PLAIN) else str(value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        for key, value in attributes.items():
            self.set_attribute(key, value)

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None) -> None:
        self._events.append(Event(name, attributes, timestamp))

    def update_name(self, name: str) -> None:
        self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self._status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        kind = type_of(exception)
        described = {
            "exception.type": kind,
            "exception.message": telemetry.message(exception),
            "exception.stacktrace": "".join(traceback.format_tb(exception.__traceback__)) + kind,
        }
        self.add_event("exception", {**described, **(attributes or {})}, timestamp)
        self.fail(kind)

    def fail(self, kind: str) -> None:
        self._attributes.setdefault("error.type", kind)
        self._status = Status(StatusCode.ERROR)


provider: TracerProvider
_processor: BatchSpanProcessor
_ready = False  # whether this process has them: set after the fork
_work: "tuple[trace.Span, Token[context.Context]] | None" = None


def start(settings: Settings) -> None:
    """In the process that serves or works, since the SDK sends from a thread, which does not survive a fork."""
    global provider, _processor, _ready
    if _ready:
        return
    _complete_environment(settings)
    given = OTELResourceDetector().detect().attributes
    release = version.current()
    resource = {
        "service.name": release["name"],
        "service.version": release["version"],
        "service.instance.id": f"{logs.HOST}-{os.getpid()}",
        "deployment.environment.name": settings.app_env,
        "vcs.ref.head.revision": release["revision"],
    }
    provider = TracerProvider(
        resource=OneResource(Resource.create({**resource, **given}).attributes), shutdown_on_exit=False
    )
    _processor = BatchSpanProcessor(OTLPSpanExporter())
    provider.add_span_processor(_processor)
    trace.set_tracer_provider(provider)
    _record_what_is_logged()
    _pass_on_in_http_calls()
    _ready = True


def _complete_environment(settings: Settings) -> None:
    """The SDK reads variables alone, and takes an empty one for a value."""
    given = {**read_dotenv(), **os.environ}
    os.environ.update({name: value for name, value in given.items() if name.startswith("OTEL_") and value})
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = settings.otel_exporter_otlp_endpoint
    if settings.otel_exporter_otlp_headers:
        os.environ["OTEL_EXPORTER_OTLP_HEADERS"] = settings.otel_exporter_otlp_headers
    for name in [name for name, value in os.environ.items() if name.startswith("OTEL_") and not value]:
        del os.environ[name]


def stop() -> None:
    """The SDK would wait for half a minute for a collector that does not answer."""
    if _ready:
        end_work()
        last = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
        last.start()
        last.join(LAST_MOMENT)


def begin(
    name: str, kind: SpanKind, attributes: Mapping[str, Any], parent: SpanContext | None = None, trace_id: int = 0
) -> trace.Span:
    """A span with this parent, or the root of a trace, if the sampler wants one; else one that records nothing."""
    above = trace.set_span_in_context(trace.NonRecordingSpan(parent), _NOTHING) if parent else _NOTHING
    trace_id = parent.trace_id if parent else trace_id or provider.id_generator.generate_trace_id()
    wanted = provider.sampler.should_sample(above, trace_id, name, kind, attributes)
    sampled = wanted.decision is Decision.RECORD_AND_SAMPLE
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    own = SpanContext(trace_id, provider.id_generator.generate_span_id(), False, flags, wanted.trace_state)
    return Span(name, own, parent, kind, attributes) if sampled else trace.NonRecordingSpan(own)


_NOTHING = context.Context()


class Request:
    """The span of a request, and of what is done for it: current in this context from here on."""

    def __init__(self, method: str, path: str, traceparent: str, tracestate: str) -> None:
        parent, trace_id = origin(traceparent, tracestate)
        self.method = method if method in METHODS else "_OTHER"
        self.name = method if method in METHODS else "HTTP"
        attributes = {"http.request.method": self.method, "url.path": path}
        self.span = begin(self.name, SpanKind.SERVER, attributes, parent, trace_id)
        self.token = context.attach(trace.set_span_in_context(self.span))
        logs.trace_id.set(trace.format_trace_id(self.span.get_span_context().trace_id))

    def end(self, status: int, route: str | None, scheme: str, host: str) -> None:
        """With what only then is known."""
        if isinstance(span := self.span, Span):
            own = span._attributes
            own["url.scheme"], own["server.address"] = scheme, PORT.sub("", host)
            if status:  # none where the client has gone
                own["http.response.status_code"] = status
            if (current := logs.request_id.get()) is not None:
                own["request.id"] = current
            if route is not None:
                own["http.route"] = route
                span.update_name(f"{self.name} {route}")
            if status >= 500:
                span.fail(str(status))
            span.end()


def request(method: str, path: str, traceparent: str, tracestate: str) -> Request | None:
    """None for one that is polled, and in a process that serves only tests."""
    if _ready and not routes.is_polled(path):
        return Request(method, path, traceparent, tracestate)
    logs.trace_id.set(None)
    return None


def origin(traceparent: str, tracestate: str) -> tuple[SpanContext | None, int]:
    """The caller's span, or no span but a trace's id; neither where the header is missing or malformed.

    Our proxy has no span. It says so by a span id that is the second half of the trace's id: the request's span then
    is the first one of that trace, and the sampler decides.
    """
    if not (found := TRACEPARENT(traceparent)):
        return None, 0
    trace_id, span_id, flags = found.groups()
    if trace_id.endswith(span_id):
        return None, int(trace_id, 16)
    state = TraceState.from_header([tracestate]) if tracestate else None
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)), state), 0


class Requests:
    """WSGI middleware: a span for each request, but for those that are polled. It ends with the response's body."""

    def __init__(self, app: WSGIApplication) -> None:
        self.app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        parent = environ.get("HTTP_TRACEPARENT", ""), environ.get("HTTP_TRACESTATE", "")
        current = request(environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""), *parent)
        if not current:
            return self.app(environ, start_response)
        answered, route = 500, None

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: "OptExcInfo | None" = None
        ) -> Callable[[bytes], object]:
            nonlocal answered, route
            answered = int(status[:3])
            rule = getattr(environ.get("werkzeug.request"), "url_rule", None)  # only until Flask has answered
            route = environ.get("SCRIPT_NAME", "") + rule.rule if rule else None
            return start_response(status, headers, exc_info)

        def end() -> None:
            context.detach(current.token)
            current.end(answered, route, environ["wsgi.url_scheme"], environ.get("HTTP_HOST", ""))

        try:
            body = self.app(environ, start)
        except BaseException as error:
            current.span.record_exception(error)
            end()
            raise
        is_file = isinstance(body, environ.get("wsgi.file_wrapper", ()))
        if not is_file:
            return Body(body, end)
        end()
        return body  # as it is: the server then has the kernel send the file


class Body:
    """A response's body that tells when it is over."""

    def __init__(self, parts: Iterable[bytes], end: Callable[[], None]) -> None:
        self.parts, self.end = parts, end

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.parts)

    def close(self) -> None:
        try:
            if close := getattr(self.parts, "close", None):
                close()
        finally:
            self.end()


def init_app(app: "Flask") -> None:
    app.wsgi_app = Requests(app.wsgi_app)  # type: ignore[method-assign] # as Flask documents it


def executed(done: Any) -> None:
    """A statement, as chassis.db.timing tells of it, becomes a span of what is current: of nothing else."""
    if isinstance(parent := sampled(), SpanContext):
        comment = OUR_COMMENT(done.statement)
        text = done.statement[comment.end() if comment else 0 :]
        operation = text.split(None, 1)[0].upper() if text else "SQL"
        attributes = {
            "db.system.name": "postgresql",
            "db.operation.name": operation,
            "db.query.text": text[:MAX_STATEMENT],
        }
        _past(operation, SpanKind.CLIENT, parent, done.begun, done.ended, attributes, done.error)


def waited(begun: float, ended: float, failure: Exception | None) -> None:
    """A wait for a connection of the pool, as chassis.db.pool tells of it."""
    if (failure or ended - begun > LONG_WAIT) and (parent := sampled()):
        _past("wait for a connection", SpanKind.INTERNAL, parent, begun, ended, {}, failure)


def sampled() -> SpanContext | None:
    """The current span's, if it is recorded."""
    current = trace.get_current_span().get_span_context()
    return current if _ready and current.trace_flags & TraceFlags.SAMPLED else None


def _past(
    name: str,
    kind: SpanKind,
    parent: SpanContext,
    begun: float,
    ended: float,
    attributes: dict[str, Any],
    error: BaseException | None,
) -> None:
    """A span of what is over, with times of perf_counter."""
    own = SpanContext(
        parent.trace_id, provider.id_generator.generate_span_id(), False, parent.trace_flags, parent.trace_state
    )
    span = Span(name, own, parent, kind, attributes)
    if error:
        span.fail(type_of(error))
    now = span._start_time
    assert now
    span._start_time = now - int((ended - begun) * 1e9)
    span.end(now)


def type_of(error: BaseException) -> str:
    """Of what SQLAlchemy raises, the driver's own."""
    kind = type(getattr(error, "orig", None) or error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def begin_work(name: str) -> None:
    global _work
    end_work()
    span = begin(name, SpanKind.INTERNAL, {})
    logs.trace_id.set(trace.format_trace_id(span.get_span_context().trace_id))
    _work = span, context.attach(trace.set_span_in_context(span))


def end_work() -> None:
    global _work
    if _work:
        span, token = _work
        context.detach(token)
        span.end()
        logs.trace_id.set(None)
        _work = None


def headers() -> dict[str, str]:
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return {}
    ids = trace.format_trace_id(current.trace_id), trace.format_span_id(current.span_id)
    found = {"traceparent": f"00-{ids[0]}-{ids[1]}-{current.trace_flags:02x}"}
    return found | ({"tracestate": current.trace_state.to_header()} if current.trace_state else {})


def _record_what_is_logged() -> None:
    """An exception that is logged as an error belongs to the span in which it is: every framework logs those."""
    make = logging.getLogRecordFactory()

    def record(*arguments: Any, **options: Any) -> logging.LogRecord:
        made = make(*arguments, **options)
        if made.exc_info and made.levelno >= logging.ERROR and (error := made.exc_info[1]):
            trace.get_current_span().record_exception(error)
        return made

    logging.setLogRecordFactory(record)


def _pass_on_in_http_calls() -> None:
    """urllib, requests and all of urllib3 send their headers through this method; others ask `telemetry.headers()`."""
    end = http.client.HTTPConnection.endheaders

    def endheaders(self: http.client.HTTPConnection, *arguments: Any, **options: Any) -> None:
        sent: list[bytes] = self._buffer  # type: ignore[attr-defined] # not in the stubs
        if not any(line[:12].lower() == b"traceparent:" for line in sent):
            for name, value in headers().items():
                self.putheader(name, value)
        end(self, *arguments, **options)

    http.client.HTTPConnection.endheaders = endheaders  # type: ignore[method-assign]
