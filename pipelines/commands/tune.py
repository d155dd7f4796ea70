"""Settings for a regression rule from the history: its series as they were, without alerts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipelines.commands.replay import Span, stored
from pipelines.service.wiring import load_rules
from vqmon.core.alerts.backtest.tuning import POINTS_PER_MOS, Expected, Proposal, Recorded, expected, propose
from vqmon.core.alerts.regression.regressions import Trends
from vqmon.core.alerts.regression.series_alert import Reading, Turned
from vqmon.core.alerts.rules import AlertRule, Regression, tuning_of
from vqmon.core.alerts.state import AlertState, Memory, Track, look_at
from vqmon.core.types import Outcome
from vqmon.errors import SettingsError
from vqmon.settings.load import Settings
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import open_history

DROPS_MOS = (0.1, 0.2, 0.3, 0.5, 1.0)
LARGEST_SERIES = 500
"""Series that are looked at; more of them say no more about a rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What is proposed for one rule."""

    rule: AlertRule
    proposal: Proposal
    expected: tuple[Expected, ...]


def tune(
    settings: Settings, place: HistoryLocation, *, rule: str, wanted: float, drop: float, span: Span
) -> Iterator[Tuned]:
    """Proposals for the regression rule of that name, or for all, from the stored outcomes.

    Raises SettingsError when there is no such rule, or too little is stored.
    """
    rules = [it for it in load_rules(settings) if isinstance(it.condition, Regression) and rule in ("", it.name)]
    if not rules:
        raise SettingsError(f"no regression rule {rule!r} in the rules file" if rule else "no regression rule to tune")
    listener = _Listener(rules)
    with open_history(place, mode="read") as history:
        for outcome in stored(history, span):
            listener.hear(outcome)
    found = 0
    for one in rules:
        assert isinstance(one.condition, Regression)
        try:
            proposal = propose(listener.series(one.name), wanted=wanted, drop=drop, tuning=tuning_of(one.condition))
        except ValueError as error:
            if rule:
                raise SettingsError(f"rule {one.name!r}: {error}") from error
            continue
        found += 1
        points = [mos * POINTS_PER_MOS for mos in DROPS_MOS]
        yield Tuned(rule=one, proposal=proposal, expected=expected(proposal, points))
    if not found:
        raise SettingsError("too little is stored: no series of a regression rule has 240 scored segments")


class _Listener:
    """Hears the readings of rules as the Judge would make them: pairs aligned, masks and labels applied."""

    def __init__(self, rules: list[AlertRule]) -> None:
        self._memory = Memory(None)
        self._trends = Trends(rules, self._memory, follow=self._record)
        self._values: dict[tuple[str, str], list[tuple[float, float, float]]] = {}

    def hear(self, outcome: Outcome) -> None:
        known = self._memory.states.get(f"|{outcome.segment.rendition.key}")
        track, look = look_at(known if isinstance(known, Track) else None, outcome)
        self._memory.remember(track)
        if look is not None:
            for _ in self._trends.judge(look):
                pass

    def series(self, rule: str) -> list[Recorded]:
        return [Recorded(name=name, values=tuple(values)) for (of, name), values in self._values.items() if of == rule]

    def _record(self, rule: AlertRule, state: AlertState, reading: Reading) -> tuple[AlertState, Turned | None]:
        # Another basis is another series.
        key = (rule.name, f"{state.series} ({reading.basis})")
        if key in self._values or len(self._values) < LARGEST_SERIES:
            entry = reading.entry
            self._values.setdefault(key, []).append((entry.starts, entry.ends, reading.value))
        return replace(state, basis=reading.basis), None
