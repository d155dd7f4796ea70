"""Alerts to the operator about what a partition depends on, as they are stored in the state topic."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from vqmon.core.types import Alert
from vqmon.errors import WireError


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginOutage:
    """An origin that serves no segments of some streams, and the open alert about it."""

    alert: Alert
    # the first streams that it did not serve, and has not served since
    streams: tuple[str, ...]


_ALERT = TypeAdapter(Alert)
_OUTAGES = TypeAdapter(dict[str, OriginOutage])


def encode_outages(outages: Mapping[str, OriginOutage]) -> bytes | None:
    """The outages by origin, as JSON; None when there are none."""
    return _OUTAGES.dump_json(dict(outages)) if outages else None


def parse_outages(document: bytes | None) -> dict[str, OriginOutage]:
    """The stored outages by origin; raises WireError."""
    if document is None:
        return {}
    try:
        return _OUTAGES.validate_json(document)
    except ValidationError as error:
        raise WireError(f"not the outages of origins: {error}") from error


def encode_open_alert(alert: Alert) -> bytes:
    """An open alert as JSON."""
    return _ALERT.dump_json(alert)


def parse_open_alert(document: bytes | None) -> Alert | None:
    """The stored open alert; None when there is none, or none that can be read."""
    if document is None:
        return None
    try:
        return _ALERT.validate_json(document)
    except ValidationError:
        return None
