"""Traces and metrics as a real OTLP receiver gets them from `vqmon run`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.media.clips import clip, x264
from tests.receivers import posted_body, served


class _Receiver(ThreadingHTTPServer):
    """Keeps what is posted to the paths of OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Receiver

    def do_POST(self) -> None:
        body = posted_body(self)
        if self.path == "/v1/traces":
            self.server.traces.append(ExportTraceServiceRequest.FromString(body))
        elif self.path == "/v1/metrics":
            self.server.metrics.append(ExportMetricsServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def receiver() -> Iterator[_Receiver]:
    with _Receiver() as server, served(server):
        yield server


def test_each_segment_is_a_trace_and_metrics_arrive_with_them(tmp_path: Path) -> None:
    """Fetch, decode and score lie in the observation of the segment; publishing links to it; the process is named."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.ts").write_bytes(clip(*x264(), size="192x108", seconds=2))
    (tmp_path / "in" / "b.ts").write_bytes(b"no media")
    (tmp_path / "vqmon.toml").write_text('[source]\nkind = "folder"\nfolder = "in"\nfolder_settle_seconds = 0.1\n')
    with receiver() as server:
        environment = os.environ | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        command = [sys.executable, "-m", "vqmon", "run", "--for", "6"]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr

    spans = [span for request in server.traces for span in _spans_of(request)]
    observed = [span for span in spans if span.name == "observe"]
    children = {root.span_id: {span.name for span in spans if span.parent_span_id == root.span_id} for root in observed}
    assert sorted(children.values(), key=len) == [{"fetch", "decode"}, {"fetch", "decode", "score"}]
    assert {_attribute(span, "vqmon.stream") for span in observed} == {"folder"}
    linked = {link.span_id for span in spans if span.name == "publish" for link in span.links}
    assert linked == set(children)
    for request in (server.traces[0], server.metrics[0]):
        batch = request.resource_spans[0] if hasattr(request, "resource_spans") else request.resource_metrics[0]
        resource = {item.key: item.value.string_value for item in batch.resource.attributes}
        assert resource["service.name"] == "vqmon"
        assert resource["service.version"] != "0"
        assert len(resource["service.instance.id"]) == 36
        assert resource["deployment.environment.name"] == "test"
    names = {
        metric.name
        for request in server.metrics
        for batch in request.resource_metrics
        for scope in batch.scope_metrics
        for metric in scope.metrics
    }
    assert {"vqmon.segment.count", "vqmon.segment.score", "vqmon.stage.duration"} <= names


def _spans_of(request: ExportTraceServiceRequest) -> list[Span]:
    return [span for batch in request.resource_spans for scope in batch.scope_spans for span in scope.spans]


def _attribute(span: Span, key: str) -> str:
    return next(item.value.string_value for item in span.attributes if item.key == key)
