"""Traces, metrics and logs as a real OTLP receiver gets them from `vqmon run`."""

import os
import subprocess
import sys
from pathlib import Path

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.media.clips import clip, x264
from tests.otlp_receiver import otlp_receiver


def test_each_segment_is_a_trace_and_metrics_arrive_with_them(tmp_path: Path) -> None:
    """Fetch, decode and score lie in the observation of the segment; publishing links to it; the process is named."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.ts").write_bytes(clip(*x264(), size="192x108", seconds=2))
    (tmp_path / "in" / "b.ts").write_bytes(b"no media")
    (tmp_path / "vqmon.toml").write_text('[source]\nkind = "folder"\nfolder = "in"\nfolder_settle_seconds = 0.1\n')
    with otlp_receiver() as server:
        environment = os.environ | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        command = [sys.executable, "-m", "vqmon", "run", "--for", "6"]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr

    spans = server.spans
    observed = [span for span in spans if span.name == "observe"]
    children = {root.span_id: {span.name for span in spans if span.parent_span_id == root.span_id} for root in observed}
    stages = {"fetch", "decode", "score", "decode_again", "score_again"}
    assert sorted(children.values(), key=len) == [{"fetch", "decode"}, stages], "the frames of the clip disagree"
    assert {_attribute(span, "vqmon.stream") for span in observed} == {"folder"}
    linked = {link.span_id for span in spans if span.name == "publish" for link in span.links}
    assert linked == set(children)
    for batch in (
        server.traces[0].resource_spans[0],
        server.metrics[0].resource_metrics[0],
        server.logs[0].resource_logs[0],
    ):
        resource = {item.key: item.value.string_value for item in batch.resource.attributes}
        assert resource["service.name"] == "vqmon"
        assert resource["service.version"] != "0"
        assert len(resource["service.instance.id"]) == 36
        assert resource["deployment.environment.name"] == "test"
    assert {"daemon.ready", "daemon.stopped"} & {record.body.string_value for record in server.log_records}
    names = {
        metric.name
        for request in server.metrics
        for batch in request.resource_metrics
        for scope in batch.scope_metrics
        for metric in scope.metrics
    }
    assert {"vqmon.segment.count", "vqmon.segment.score", "vqmon.stage.duration"} <= names


def _attribute(span: Span, key: str) -> str:
    return next(item.value.string_value for item in span.attributes if item.key == key)
