"""Structured logging: each log line is an event name with fields, as text or JSON; no address in it has a secret."""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from vqmon.telemetry.otlp import trace_fields
from vqmon.telemetry.redaction import redact_addresses
from vqmon.terminal import erase_progress

# systemd reads "<N>" at the start of a line as its priority (sd-daemon(3)).
_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def configure_logging(level: str, form: Literal["text", "json"], *, stream: TextIO = sys.stderr) -> None:
    """Write vqmon's log lines from `level` on to `stream`; those of libraries from warning on."""
    handler = _LineHandler(stream)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("vqmon").setLevel(level.upper())


def log_event(name: str, **fields: object) -> dict[str, Any]:
    """The arguments of a log call: `log.info(**log_event("segment.failed", stage="decode"))`."""
    return {"msg": name, "extra": {"fields": fields}}


class _LineHandler(logging.StreamHandler[TextIO]):
    def emit(self, record: logging.LogRecord) -> None:
        erase_progress()
        super().emit(record)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = getattr(record, "fields", {})
        pairs = " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())
        logged_at = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        text = f"{logged_at} {record.levelname.lower():7} {record.getMessage()} {pairs}".rstrip()
        text = f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text
        return redact_addresses(text)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
            **trace_fields(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return f"<{_PRIORITY.get(record.levelno, 6)}>{json.dumps(_redacted(line))}"


def _redacted(value: Any) -> Any:
    """A value of JSON, its texts without what may be secret in an address."""
    if isinstance(value, Mapping):
        return {str(name): _redacted(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float) else redact_addresses(str(value))


def _quoted(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text
