"""Errors that nobody expected while a segment was observed: an outcome of that segment, never the end of the daemon."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from vqmon.core.types import Segment
from vqmon.errors import SegmentError
from vqmon.telemetry.logs import log_event

_log = logging.getLogger("vqmon.observe")


@contextmanager
def unexpected_as(kind: type[SegmentError], segment: Segment) -> Iterator[None]:
    """Log an unexpected error of the context with its trace, and raise it as `internal` of this kind."""
    try:
        yield
    except SegmentError:
        raise
    except Exception as error:
        where = f"{segment.rendition.key} #{segment.sequence}"
        _log.exception(**log_event("segment.internal", segment=where, stage=kind.stage))
        raise kind("internal", f"{type(error).__name__}; the log has its trace") from error
