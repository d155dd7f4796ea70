"""The same look at old segments, and new alert rules on old events."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipelines.observe import Observation
from pipelines.parts import fetch_policy, load_rules, open_observer
from vqmon.core.rules import Judge, parse_rules
from vqmon.core.types import Alert, Outcome, QualityEvent, Segment
from vqmon.flow import in_order
from vqmon.media.fetch import Fetcher
from vqmon.settings import Settings
from vqmon.transport.places import Place
from vqmon.transport.store import History, open_history


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which stored outcomes are meant; empty = all."""

    stream_id: str = ""
    since: datetime | None = None
    until: datetime | None = None


def judge_again(
    settings: Settings, place: Place, *, rules: Path | None, span: Span
) -> tuple[Sequence[Alert], Sequence[Alert]]:
    """What the rules of the settings and those of `rules` say about the stored outcomes; last state of each alert."""
    old = load_rules(settings)
    new = parse_rules(rules.read_text(encoding="utf-8"), origin=str(rules)) if rules else old
    with open_history(place, mode="read") as history:
        judges = (Judge(old), Judge(new))
        alerts: tuple[dict[str, Alert], dict[str, Alert]] = ({}, {})
        for outcome in _stored(history, span):
            for judge, found in zip(judges, alerts, strict=True):
                found.update({alert.id: alert for alert in judge.judge(outcome)})
    return tuple(alerts[0].values()), tuple(alerts[1].values())


async def look_again(settings: Settings, place: Place, *, span: Span, told: Callable[[str], None]) -> int:
    """Observe stored, scored segments once more; how many came out with another id or another score."""
    with open_history(place, mode="read") as history:
        events = [outcome for outcome in _stored(history, span) if isinstance(outcome, QualityEvent)]
    stored = {event.segment.key: event for event in events}
    differing = 0

    async def finish(ready: Sequence[tuple[Segment, Observation]]) -> None:
        nonlocal differing
        for segment, seen in ready:
            difference = _difference(stored[segment.key], seen.outcome)
            differing += difference is not None
            told(f"{segment.key}: {difference or 'the same'}")

    async def each() -> AsyncIterator[Segment]:
        for event in stored.values():
            yield event.segment

    named = [event.segment.url for event in events]
    async with (
        Fetcher(fetch_policy(settings, named=named)) as fetcher,
        open_observer(settings, fetcher=fetcher) as observer,
    ):
        await in_order(each(), observer.observe, finish, running=asyncio.Semaphore(settings.in_flight))
    return differing


def _stored(history: History, span: Span) -> Iterator[Outcome]:
    return history.outcomes_in_order(stream_id=span.stream_id, since=span.since, until=span.until)


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
