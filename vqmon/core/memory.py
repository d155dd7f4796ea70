"""What a Judge remembers, and what of it changed since it was last asked."""

from collections.abc import Mapping

from vqmon.core.alerts.state import State


class Memory:
    """States by key; a change is told once."""

    def __init__(self, states: Mapping[str, State] | None) -> None:
        self.states: dict[str, State] = dict(states or {})
        self._changed: dict[str, State | None] = {}

    def remember(self, state: State) -> None:
        self.states[state.key] = state
        self._changed[state.key] = state

    def forget(self, key: str) -> None:
        """Nothing happens when it is not known."""
        if self.states.pop(key, None) is not None:
            self._changed[key] = None

    def take_changed(self) -> Mapping[str, State | None]:
        """What is remembered differently since the last call; None = forget it."""
        changed, self._changed = self._changed, {}
        return changed
