"""Traces of segments, and the export of traces and metrics over OTLP, by OpenTelemetry's own variables.

Nothing leaves the process unless `OTEL_EXPORTER_OTLP_ENDPOINT` (or its form for traces or metrics alone) names a
receiver. `OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER` ("none"), `OTEL_TRACES_SAMPLER`,
`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_METRIC_EXPORT_INTERVAL` mean what its specification says.
"""

import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from vqmon.errors import SettingsError
from vqmon.telemetry.redaction import redact_addresses

NO_SPAN = trace.INVALID_SPAN_CONTEXT
"""Stands where nothing was traced."""


class _State:
    """The tracer while traces are exported; the no-op tracer would cost ten microseconds a span."""

    tracer: trace.Tracer | None = None


_state = _State()
_INSTANCE_ID = str(uuid4())
_PROPAGATOR = TraceContextTextMapPropagator()
_REMEDY = "needs the OTLP exporter: pip install 'vqmon[otlp]', or unset the variable"


def service_resource(version: str) -> Resource:
    """Name, version and instance of this process; `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` come first."""
    own = {"service.name": "vqmon", "service.version": version, "service.instance.id": _INSTANCE_ID}
    given = Resource.create().attributes
    named = {key: value for key, value in given.items() if not str(value).startswith("unknown_service")}
    return Resource({**own, **named})


def metric_readers() -> Sequence[MetricReader]:
    """A reader that pushes metrics to the receiver, or none; raises SettingsError without the exporter."""
    variable = _endpoint_variable("METRICS")
    if not variable:
        return ()
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    except ImportError as error:
        raise SettingsError(f"environment: {variable} {_REMEDY}") from error
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    return [PeriodicExportingMetricReader(OTLPMetricExporter())]


@contextmanager
def exported_traces(version: str) -> Iterator[None]:
    """Export the spans that end within the context, if there is a receiver; what is left is sent at its end.

    Raises SettingsError when the exporter is not installed.
    """
    variable = _endpoint_variable("TRACES")
    if not variable:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise SettingsError(f"environment: {variable} {_REMEDY}") from error
    provider = TracerProvider(resource=service_resource(version), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    _state.tracer = trace.get_tracer("vqmon")
    try:
        yield
    finally:
        _state.tracer = None
        provider.shutdown()


def _endpoint_variable(signal: str) -> str:
    """The variable that names the receiver of a signal (TRACES or METRICS); "" when it is not exported."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    if os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp").strip().lower() == "none":
        return ""
    names = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next((name for name in names if os.environ.get(name)), "")


@contextmanager
def span(name: str, *, links: Sequence[SpanContext] = (), **attributes: Any) -> Iterator[SpanContext]:
    """A span around the context; an exception is recorded on it. Nothing without a receiver."""
    tracer = _state.tracer
    if tracer is None:
        yield NO_SPAN
        return
    with tracer.start_as_current_span(
        name,
        kind=SpanKind.INTERNAL,
        links=[Link(context) for context in links if context.is_valid],
        attributes={f"vqmon.{key}": value for key, value in attributes.items()},
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current.get_span_context()
        except Exception as error:
            _record_error(current, error)
            raise


def _record_error(current: trace.Span, error: Exception) -> None:
    """Put an exception on its span as OpenTelemetry does, but without what may be secret in an address."""
    kind, message = type(error).__name__, redact_addresses(str(error))
    attributes = {
        "exception.type": f"{type(error).__module__}.{type(error).__qualname__}",
        "exception.message": message,
        "exception.stacktrace": redact_addresses("".join(traceback.format_exception(error))),
    }
    current.add_event("exception", attributes)
    current.set_status(trace.Status(trace.StatusCode.ERROR, f"{kind}: {message}"))


@contextmanager
def continued_trace(headers: Mapping[str, bytes]) -> Iterator[None]:
    """Spans within belong to the trace of these W3C headers (`traceparent`, `tracestate`), if they hold one."""
    carrier = {
        name: headers[name].decode("ascii", "replace") for name in ("traceparent", "tracestate") if name in headers
    }
    if not carrier:
        yield
        return
    token = contexts.attach(_PROPAGATOR.extract(carrier))
    try:
        yield
    finally:
        contexts.detach(token)


def trace_fields() -> Mapping[str, str]:
    """`trace_id` and `span_id` of the current span for a log line; empty outside of one."""
    current = trace.get_current_span().get_span_context()
    if not current.is_valid:
        return {}
    return {"trace_id": f"{current.trace_id:032x}", "span_id": f"{current.span_id:016x}"}
