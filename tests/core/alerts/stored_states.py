"""Stores the states of a Judge as a history does, and reads them back."""

from collections.abc import Iterable, Mapping

from vqmon.core.alerts.judge import Judge
from vqmon.core.alerts.state import State, StateKey
from vqmon.transport.wire.alert_states.states import state_key
from vqmon.transport.wire.cloudevents import encode_state, parse_state


def save_changes(judge: Judge, stored: dict[str, bytes]) -> None:
    """Write what has changed since the last call into `stored`."""
    for key, state in judge.drain_changes().items():
        if state is None:
            stored.pop(state_key(key), None)
        else:
            stored[state_key(key)] = encode_state(state)


def load(documents: Iterable[bytes]) -> dict[StateKey, State]:
    """The states in stored documents."""
    return {state.key: state for state in map(parse_state, documents)}


def copied(judge: Judge) -> dict[StateKey, State]:
    """The states of a Judge after a round trip through their stored form."""
    return load(encode_state(state) for state in judge.states().values())


def by_stored_key(judge: Judge) -> Mapping[str, State]:
    """The states of a Judge by the key under which they are stored."""
    return {state_key(key): state for key, state in judge.states().items()}
