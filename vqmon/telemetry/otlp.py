"""Traces of segments, and the export of traces, metrics and logs over OTLP, by OpenTelemetry's own variables.

Nothing leaves the process unless `OTEL_EXPORTER_OTLP_ENDPOINT` (or its form for traces, metrics or logs alone) names a
receiver. `OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER`, `OTEL_METRICS_EXPORTER`, `OTEL_LOGS_EXPORTER` ("none"),
`OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_METRIC_EXPORT_INTERVAL` mean what its
specification says.
"""

import logging
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any, Literal
from uuid import uuid4

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from vqmon.errors import SettingsError, install_extra
from vqmon.telemetry.redaction import redact_addresses

NO_SPAN = trace.INVALID_SPAN_CONTEXT
"""Stands where nothing was traced."""


class _State:
    """The tracer while traces are exported; the no-op tracer would cost ten microseconds a span."""

    tracer: trace.Tracer | None = None


_state = _State()
_INSTANCE_ID = str(uuid4())
_PROPAGATOR = TraceContextTextMapPropagator()
_REMEDY = f"needs the OTLP exporter: {install_extra('otlp')}, or unset the variable"


def service_resource(version: str) -> Resource:
    """Name, version and instance of this process; `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` come first."""
    own = {"service.name": "vqmon", "service.version": version, "service.instance.id": _INSTANCE_ID}
    given = Resource.create().attributes
    named = {key: value for key, value in given.items() if not str(value).startswith("unknown_service")}
    return Resource({**own, **named})


def metric_readers() -> Sequence[MetricReader]:
    """A reader that pushes metrics to the receiver, or none; raises SettingsError without the exporter."""
    exporter = _open_exporter("METRICS", "metric_exporter", "OTLPMetricExporter")
    if exporter is None:
        return ()
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    return [PeriodicExportingMetricReader(exporter)]


@contextmanager
def exported_traces(version: str) -> Iterator[None]:
    """Export the spans that end within the context, if there is a receiver; what is left is sent at its end.

    Raises SettingsError when the exporter is not installed.
    """
    exporter = _open_exporter("TRACES", "trace_exporter", "OTLPSpanExporter")
    if exporter is None:
        yield
        return
    provider = TracerProvider(resource=service_resource(version), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _state.tracer = provider.get_tracer("vqmon")
    try:
        yield
    finally:
        _state.tracer = None
        provider.shutdown()


@contextmanager
def exported_logs(version: str) -> Iterator[None]:
    """Export vqmon's own log lines within the context, from its log level on, with the ids of their trace.

    Raises SettingsError when the exporter is not installed.
    """
    exporter = _open_exporter("LOGS", "_log_exporter", "OTLPLogExporter")
    if exporter is None:
        yield
        return
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider(resource=service_resource(version), shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    handler = _ExportHandler(provider.get_logger("vqmon"))
    own = logging.getLogger("vqmon")
    own.addHandler(handler)
    try:
        yield
    finally:
        own.removeHandler(handler)
        provider.shutdown()


class _ExportHandler(logging.Handler):
    """Hands log lines to OpenTelemetry: the event name is the body, its fields are attributes; without secrets."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line; the current span's ids come with the current context."""
        fields: Mapping[str, object] = getattr(record, "fields", {})
        attributes = {f"vqmon.{name}": _attribute(value) for name, value in fields.items()}
        if record.exc_info:
            attributes["exception.stacktrace"] = redact_addresses(logging.Formatter().formatException(record.exc_info))
        self._logger.emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                context=contexts.get_current(),
                severity_number=_SEVERITIES.get(record.levelno, SeverityNumber.INFO),
                severity_text=record.levelname,
                body=redact_addresses(record.getMessage()),
                attributes={**attributes, "code.namespace": record.name},
            )
        )


_SEVERITIES = {
    logging.DEBUG: SeverityNumber.DEBUG,
    logging.INFO: SeverityNumber.INFO,
    logging.WARNING: SeverityNumber.WARN,
    logging.ERROR: SeverityNumber.ERROR,
    logging.CRITICAL: SeverityNumber.FATAL,
}


def _attribute(value: object) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float) else redact_addresses(str(value))


def _open_exporter(signal: str, module: str, name: str) -> Any:
    """The exporter of a signal (TRACES, METRICS or LOGS); None without a receiver.

    Raises SettingsError when the exporter is not installed.
    """
    variable = _endpoint_variable(signal)
    if not variable:
        return None
    try:
        return getattr(import_module(f"opentelemetry.exporter.otlp.proto.http.{module}"), name)()
    except ImportError as error:
        raise SettingsError(f"environment: {variable} {_REMEDY}") from error


def _endpoint_variable(signal: str) -> str:
    """The variable that names the receiver of a signal (TRACES, METRICS or LOGS); "" when it is not exported."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    if os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp").strip().lower() == "none":
        return ""
    names = (f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next((name for name in names if os.environ.get(name)), "")


_NO_SPAN_CONTEXT = nullcontext(NO_SPAN)
_SAME_TRACE_CONTEXT = nullcontext()


def span(
    name: str,
    *,
    links: Sequence[SpanContext] = (),
    kind: Literal["INTERNAL", "CONSUMER", "PRODUCER"] = "INTERNAL",
    messaging: Mapping[str, str | int] | None = None,
    **attributes: Any,
) -> AbstractContextManager[SpanContext]:
    """A span around the context; an exception is recorded on it. Nothing without a receiver.

    `attributes` are vqmon's own, `messaging` those of OpenTelemetry's conventions for Kafka, without their first part.
    """
    tracer = _state.tracer
    if tracer is None:
        return _NO_SPAN_CONTEXT
    return _exported_span(tracer, name, links=links, kind=kind, messaging=messaging, attributes=attributes)


@contextmanager
def _exported_span(
    tracer: trace.Tracer,
    name: str,
    *,
    links: Sequence[SpanContext],
    kind: str,
    messaging: Mapping[str, str | int] | None,
    attributes: Mapping[str, Any],
) -> Iterator[SpanContext]:
    with tracer.start_as_current_span(
        name,
        kind=SpanKind[kind],
        links=[Link(context) for context in links if context.is_valid],
        attributes={
            **{f"vqmon.{key}": value for key, value in attributes.items()},
            **({"messaging.system": "kafka"} if messaging else {}),
            **{f"messaging.{key}": value for key, value in (messaging or {}).items()},
        },
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


def continued_trace(headers: Mapping[str, bytes]) -> AbstractContextManager[None]:
    """Spans within belong to the trace of these W3C headers (`traceparent`, `tracestate`), if they hold one."""
    carrier = {
        name: headers[name].decode("ascii", "replace") for name in ("traceparent", "tracestate") if name in headers
    }
    return _attached_trace(carrier) if carrier else _SAME_TRACE_CONTEXT


@contextmanager
def _attached_trace(carrier: Mapping[str, str]) -> Iterator[None]:
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
