"""Exporting by OpenTelemetry's variables, and traces that are continued."""

import sys

import pytest

from vqmon.errors import SettingsError
from vqmon.telemetry.otlp import continued_trace, exported_traces, metric_readers, span, trace_fields

TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_nothing_is_exported_without_a_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor when the SDK is disabled, or one signal is."""
    assert metric_readers() == ()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    assert metric_readers() == ()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with exported_traces("1"), span("observe"):
        assert trace_fields() == {}


def test_a_missing_exporter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """And which variable asked for it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/v1/traces")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with (
        pytest.raises(SettingsError, match=r"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT .*vqmon\[otlp\]"),
        exported_traces("1"),
    ):
        pass


def test_the_trace_of_a_message_is_continued() -> None:
    """Its id is in log lines within, and gone afterwards; a malformed header starts no trace."""
    with continued_trace({"traceparent": f"00-{TRACE}-b7ad6b7169203331-01".encode()}):
        assert trace_fields()["trace_id"] == TRACE
    assert trace_fields() == {}
    with continued_trace({"traceparent": b"00-nonsense"}):
        assert trace_fields() == {}
