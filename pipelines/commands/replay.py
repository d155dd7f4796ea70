"""The same look at old segments, and new alert rules on old events."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipelines.observe.observer import Observation
from pipelines.service.wiring import fetch_policy, load_rules, open_observer
from vqmon.core.alerts.annotations import End
from vqmon.core.alerts.backtest.incidents import DAY_SECONDS, Appraisal, Incident, appraise, parse_incidents
from vqmon.core.alerts.judge import Judge, parse_rules
from vqmon.core.types import Alert, Outcome, QualityEvent, Segment
from vqmon.errors import SettingsError
from vqmon.flow import map_in_order
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.settings.load import Settings
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which stored outcomes are meant; empty = all."""

    stream_id: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one set of rules says about the stored outcomes."""

    # last state of each, in the order of opening
    alerts: Sequence[Alert]
    appraisal: Appraisal
    # rule -> the same for its alerts alone
    by_rule: Mapping[str, Appraisal]


def judge_again(
    settings: Settings, place: HistoryLocation, *, rules: Path | None, span: Span, incidents: Path | None = None
) -> tuple[Judged, Judged]:
    """What the rules of the settings and those of `rules` say about the stored outcomes, held against incidents.

    Stored deploy markers count from their moment on, stored ends from their place among the outcomes. Raises
    SettingsError when a file cannot be read.
    """
    old = load_rules(settings)
    new = parse_rules(_read(rules), origin=str(rules)) if rules else old
    known = parse_incidents(_read(incidents), origin=str(incidents)) if incidents else ()
    judges = (Judge(old), Judge(new))
    alerts: tuple[dict[str, Alert], dict[str, Alert]] = ({}, {})
    watched: dict[str, float] = {}
    with open_history(place, mode="read") as history:
        for marker in history.queries.markers():
            for judge in judges:
                judge.mark(marker)
        for it in history.documents.judge_inputs(stream_id=span.stream_id, since=span.since, until=span.until):
            if not isinstance(it, End):
                key = it.segment.rendition.key
                watched[key] = watched.get(key, 0.0) + it.segment.duration_seconds
            for judge, found in zip(judges, alerts, strict=True):
                said = judge.end(it) if isinstance(it, End) else judge.judge(it)
                found.update({alert.id: alert for alert in said})
    days = sum(watched.values()) / DAY_SECONDS
    return _judged(alerts[0], known, days), _judged(alerts[1], known, days)


def _judged(found: Mapping[str, Alert], incidents: Sequence[Incident], stream_days: float) -> Judged:
    alerts = tuple(found.values())
    rules = sorted({alert.rule for alert in alerts})
    return Judged(
        alerts=alerts,
        appraisal=appraise(alerts, incidents, stream_days=stream_days),
        by_rule={
            rule: appraise([it for it in alerts if it.rule == rule], incidents, stream_days=stream_days)
            for rule in rules
        },
    )


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read: {error}") from error


async def look_again(settings: Settings, place: HistoryLocation, *, span: Span, told: Callable[[str], None]) -> int:
    """Observe stored, scored segments once more; how many came out with another id or another score."""
    with open_history(place, mode="read") as history:
        events = [outcome for outcome in stored(history, span) if isinstance(outcome, QualityEvent)]
    known = {event.segment.key: event for event in events}
    differing = 0

    async def finish(ready: Sequence[tuple[Segment, Observation]]) -> None:
        nonlocal differing
        for segment, seen in ready:
            difference = _difference(known[segment.key], seen.outcome)
            differing += difference is not None
            told(f"{segment.key}: {difference or 'the same'}")

    async def each() -> AsyncIterator[Segment]:
        for event in known.values():
            yield event.segment

    named = [event.segment.url for event in events]
    async with (
        Fetcher(fetch_policy(settings, named=named)) as fetcher,
        open_observer(settings, fetcher=fetcher) as observer,
    ):
        await map_in_order(each(), observer.observe, finish, running=asyncio.Semaphore(settings.in_flight))
    return differing


def stored(history: History, span: Span) -> Iterator[Outcome]:
    """The outcomes that are meant, in the order in which they were written."""
    return history.documents.outcomes_in_write_order(stream_id=span.stream_id, since=span.since, until=span.until)


def _difference(old: QualityEvent, new: Outcome) -> str | None:
    if not isinstance(new, QualityEvent):
        return f"now unscored: {new.reason}: {new.detail}"
    if old.id != new.id:
        return f"another id: other scorers were used ({', '.join(s.scorer for s in old.scores)})"
    again = {score.scorer: score for score in new.scores}
    for before in old.scores:
        # A heavy scorer that only one of the looks had a reason or room for makes no difference.
        after = again.get(before.scorer)
        if after is not None and before.frame_values != after.frame_values:
            return f"{before.scorer} {before.value:.3f} became {after.value:.3f}"
    return None
