"""Receives traces as OpenTelemetry's collector does, and keeps every span; `python otlp.py PORT` prints them."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Collector:
    """On a free port of 127.0.0.1; a context manager."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        self.spans: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.server = ThreadingHTTPServer((address, port), self.handler())
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces", self.path
                collector.headers.append(dict(self.headers))
                for span in spans(ExportTraceServiceRequest.FromString(body)):
                    collector.spans.append(span)
                    print(json.dumps(span), flush=True)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def __enter__(self) -> "Collector":
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def spans(request: ExportTraceServiceRequest) -> list[dict[str, Any]]:
    return [
        {
            "name": span.name,
            "trace": span.trace_id.hex(),
            "id": span.span_id.hex(),
            "parent": span.parent_span_id.hex(),
            "kind": span.kind,
            "failed": span.status.code == 2,
            "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
            "begun": span.start_time_unix_nano / 1e9,
            "attributes": plain(span.attributes),
            "events": [{"name": event.name, **plain(event.attributes)} for event in span.events],
            "resource": plain(group.resource.attributes),
        }
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


if __name__ == "__main__":
    Collector("0.0.0.0", int(sys.argv[1])).server.serve_forever()  # noqa: S104 - a container's own
