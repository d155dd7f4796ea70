"""Which open alert explains another one: scorer before source, source before encoder, encoder before packaging."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from vqmon.core.alerts.regression.series_alert import Turned
from vqmon.core.alerts.rules import CAUSES, AlertRule, Group
from vqmon.core.alerts.state import AlertState, Members, Memory
from vqmon.core.types import Alert

UNMUTE_SECONDS = 300.0
"""An alert that outlives by so long what explained it is told after all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An open alert of a regression or group rule, with what decides whether it explains another."""

    alert: Alert
    # name without version
    scorer: str
    # of a group: stream/rendition of its series; else empty
    members: frozenset[str] = frozenset()
    # from which moment on it explains others; that of a group once every series has come so far
    since: float = 0.0

    @property
    def place(self) -> str:
        return f"{self.alert.stream_id}/{self.alert.rendition}"


def explanation(one: Standing, others: Iterable[Standing], *, at: float) -> str:
    """The id of the open alert that explains this one at a moment, the strongest first; "" when there is none."""
    rank = CAUSES.index(one.alert.cause)
    stronger = [
        (-CAUSES.index(other.alert.cause), other.alert.opened_at, other.alert.id)
        for other in others
        if other.since <= at and other.scorer == one.scorer and not other.alert.muted_by and _reaches(other, one)
        if CAUSES.index(other.alert.cause) > rank or (other.members and not one.members)
    ]
    return min(stronger)[2] if stronger else ""


def _reaches(other: Standing, one: Standing) -> bool:
    if other.members:
        return one.members <= other.members if one.members else one.place in other.members
    return other.alert.stream_id == one.alert.stream_id and not one.members


class Standings:
    """The alerts that are open now, by the key of their state."""

    def __init__(self, rules: Iterable[AlertRule], memory: Memory) -> None:
        self._memory = memory
        # how long every series is given to come as far as its group
        self._waits = {it.name: it.condition.wait_seconds for it in rules if isinstance(it.condition, Group)}
        self._open: dict[str, Standing] = {}
        for state in memory.states.values():
            if isinstance(state, AlertState) and state.alert and state.kind in ("regression", "group"):
                self._open[state.key] = self._standing(state, state.alert)

    def drop(self, key: str) -> None:
        """An alert was closed elsewhere."""
        self._open.pop(key, None)

    def settle(self, state: AlertState, turned: Turned | None, *, at: float) -> Iterator[Alert]:
        """Remember a state; tell what turned with it, muted by what explains it, or what is explained no more."""
        if turned is not None and turned.kind == "resolved":
            self._open.pop(state.key, None)
            yield turned.alert
        elif turned is not None:
            standing = self._standing(state, turned.alert)
            alert = replace(turned.alert, muted_by=explanation(standing, self._open.values(), at=at))
            state = replace(state, alert=alert)
            self._open[state.key] = replace(standing, alert=alert)
            yield alert
        elif state.alert is not None and state.alert.muted_by:
            state = self._unmuted(state, state.alert, at)
            if state.alert is not None and not state.alert.muted_by:
                yield state.alert
        self._memory.remember(state)

    def _unmuted(self, state: AlertState, alert: Alert, moment: float) -> AlertState:
        """What outlives its explanation for long enough stands for itself; `clock` tells since when it does."""
        if any(it.alert.id == alert.muted_by for it in self._open.values()):
            return replace(state, clock=None) if state.clock is not None else state
        if state.clock is None:
            return replace(state, clock=moment)
        if abs(moment - state.clock) < UNMUTE_SECONDS:
            return state
        alert = replace(alert, muted_by="")
        self._open[state.key] = self._standing(state, alert)
        return replace(state, alert=alert, clock=None)

    def _standing(self, state: AlertState, alert: Alert) -> Standing:
        members = self._memory.states.get(f"&{state.key}")
        places = members.places if isinstance(members, Members) else ()
        scorer = state.series.rsplit("/", 1)[-1].split("~")[0]
        since = alert.opened_at.timestamp() + self._waits.get(state.rule, 0.0) if places else 0.0
        return Standing(alert=alert, scorer=scorer, members=frozenset(places), since=since)
