"""The states of a judge in the state topic: their keys, and which of them can be read."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping

from vqmon.core.alerts.state import State, StateKey
from vqmon.errors import SettingsError, WireError
from vqmon.telemetry.logs import log_event
from vqmon.transport.wire import cloudevents
from vqmon.transport.wire.alert_states.states import state_key
from vqmon.transport.wire.operator_alerts import parse_open_alert, parse_outages
from vqmon.transport.wire.segment_messages import parse_rejections

log = logging.getLogger("vqmon.fleet")

REJECTIONS_KEY = "rejections"
"""The key of the rejection counts in the state topic; the keys of rules contain a `|`."""

OUTAGES_KEY = "origins"
"""The key of the origins that are away."""

OVERLOAD_KEY = "overload"
"""The key of the open alert about an overload of the worker."""


def encode_states(changed: Mapping[StateKey, State | None]) -> Iterator[tuple[str, bytes | None]]:
    """Yield key and value of each changed alert state for a state topic; a value of None deletes the key."""
    for key, state in changed.items():
        yield state_key(key), None if state is None else cloudevents.encode_state(state)


def parse_states(stored: Mapping[str, bytes], *, exclude: Collection[str] = ()) -> dict[StateKey, State]:
    """Parse the alert states of a state topic; raises SettingsError when another version of vqmon wrote them."""
    states = (_parse_state(key, value) for key, value in stored.items() if key not in exclude)
    return {state.key: state for state in states}


def _parse_state(key: str, value: bytes) -> State:
    try:
        return cloudevents.parse_state(value)
    except WireError as error:
        raise SettingsError(
            f"the state {key!r} ({len(value)} bytes) was written by another version of vqmon ({error}); run that "
            'version, empty the state topic, or set kafka.when_unreadable = "go_on" to begin such states anew'
        ) from error


def readable_states(stored: Mapping[str, bytes], *, partition: int) -> Mapping[str, bytes]:
    """The entries of a state topic that can be read; the others are logged, and begin anew."""
    parsers: Mapping[str, Callable[[bytes], object]] = {
        REJECTIONS_KEY: parse_rejections,
        OUTAGES_KEY: parse_outages,
        OVERLOAD_KEY: parse_open_alert,
    }
    readable = {}
    for key, value in stored.items():
        try:
            parsers.get(key, cloudevents.parse_state)(value)
        except WireError as error:
            log.error(**log_event("state.dropped", partition=partition, key=key, size_bytes=len(value), error=error))
        else:
            readable[key] = value
    return readable
