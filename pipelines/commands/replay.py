"""Replays stored segments: new alert rules on stored outcomes, and a second observation of the same segments."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.observe.observer import Observation
from pipelines.service.wiring import fetch_policy, load_rules, open_observer, stated_noise
from vqmon.core.alerts.annotations import StreamEnd
from vqmon.core.alerts.backtest.incidents import (
    DAY_SECONDS,
    DetectionReport,
    Incident,
    evaluate_alerts,
    parse_incidents,
)
from vqmon.core.alerts.judge import Judge
from vqmon.core.types import Alert, Outcome, QualityEvent, Segment, SegmentFailure
from vqmon.errors import SettingsError
from vqmon.flow import map_in_order
from vqmon.media.fetch.fetcher import Fetcher
from vqmon.settings.load import Settings
from vqmon.settings.rules_file import parse_rules
from vqmon.transport.history.backends.location import HistoryLocation
from vqmon.transport.history.history import History, open_history

_NO_QUERY = "the history keeps neither query nor user part of an address"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryFilter:
    """Selects stored outcomes by stream and time; an empty field selects all."""

    stream_id: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedRules:
    """The alerts of one set of rules on the stored outcomes."""

    # last state of each, in the order of opening
    alerts: Sequence[Alert]
    report: DetectionReport
    # rule -> report on its alerts alone
    report_by_rule: Mapping[str, DetectionReport]


def replay_rules(
    settings: Settings,
    place: HistoryLocation,
    *,
    rules: Path | None,
    span: HistoryFilter,
    incidents: Path | None = None,
) -> tuple[ReplayedRules, ReplayedRules]:
    """The alerts of the rules in the settings, and of those in the file `rules`, compared with known incidents.

    Stored deploy markers count from their moment on, stored ends from their place among the outcomes. Raises
    SettingsError when a file cannot be read.
    """
    current = load_rules(settings)
    learned, noise = settings.scoring.learned_references, stated_noise(settings.scoring)
    new = parse_rules(_read(rules), origin=str(rules), learned_measures=learned, noise=noise) if rules else current
    known = parse_incidents(_read(incidents), origin=str(incidents)) if incidents else ()
    retention = settings.alerts.retention
    judges = (Judge(current, retention=retention), Judge(new, retention=retention))
    alerts_by_id: tuple[dict[str, Alert], dict[str, Alert]] = ({}, {})
    seconds_by_rendition: dict[str, float] = {}
    with open_history(place, mode="read") as history:
        for marker in history.queries.markers():
            for judge in judges:
                judge.add_marker(marker)
        inputs = history.documents.judge_inputs(stream_id=span.stream_id, since=span.since, until=span.until)
        for outcome_or_end in inputs:
            if not isinstance(outcome_or_end, StreamEnd):
                segment = outcome_or_end.segment
                key = segment.rendition.key
                seconds_by_rendition[key] = seconds_by_rendition.get(key, 0.0) + segment.duration_seconds
            for judge, alerts in zip(judges, alerts_by_id, strict=True):
                alerts.update({alert.id: alert for alert in _judge(judge, outcome_or_end)})
    stream_days = sum(seconds_by_rendition.values()) / DAY_SECONDS
    before, after = (_report(alerts, known, stream_days) for alerts in alerts_by_id)
    return before, after


def _judge(judge: Judge, outcome_or_end: Outcome | StreamEnd) -> Sequence[Alert]:
    if isinstance(outcome_or_end, StreamEnd):
        return judge.end_stream(outcome_or_end)
    return judge.judge(outcome_or_end)


def _report(alerts_by_id: Mapping[str, Alert], incidents: Sequence[Incident], stream_days: float) -> ReplayedRules:
    alerts = tuple(alerts_by_id.values())
    rules = sorted({alert.rule for alert in alerts})
    return ReplayedRules(
        alerts=alerts,
        report=evaluate_alerts(alerts, incidents, stream_days=stream_days),
        report_by_rule={
            rule: evaluate_alerts(alerts, incidents, stream_days=stream_days, rule=rule) for rule in rules
        },
    )  # fmt: skip


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondObservation:
    """How stored, scored segments came out when they were observed once more."""

    # whose event id or scores differ from the stored ones
    differing_count: int
    # which could not be fetched
    unfetched_count: int
    # why, and what helps, one sentence per host
    notes: tuple[str, ...]


async def observe_stored_segments(
    settings: Settings, place: HistoryLocation, *, span: HistoryFilter, on_segment: Callable[[str], None]
) -> SecondObservation:
    """Observe stored, scored segments once more; `on_segment` gets a line of text for each segment."""
    with open_history(place, mode="read") as history:
        events = [outcome for outcome in stored_outcomes(history, span) if isinstance(outcome, QualityEvent)]
    event_by_segment = {event.segment.key: event for event in events}
    differing_count = 0
    # a digest stands in place of media that was in the playlist itself
    unfetched = [event.segment for event in events if event.segment.url.startswith("data:")]

    async def finish(ready: Sequence[tuple[Segment, Observation]]) -> None:
        nonlocal differing_count
        for segment, observation in ready:
            outcome = observation.outcome
            if isinstance(outcome, SegmentFailure) and outcome.stage == "fetch":
                unfetched.append(segment)
                on_segment(f"{segment.key}: cannot be fetched: {outcome.reason}: {outcome.detail}")
                continue
            difference = _difference(event_by_segment[segment.key], outcome)
            differing_count += difference is not None
            on_segment(f"{segment.key}: {difference or 'the same'}")

    async def segments() -> AsyncIterator[Segment]:
        for event in event_by_segment.values():
            if event.segment not in unfetched:
                yield event.segment

    urls = [event.segment.url for event in events]
    policy = fetch_policy(settings, named=urls)
    async with Fetcher(policy) as fetcher, open_observer(settings, fetcher=fetcher) as observer:
        await map_in_order(segments(), observer.observe, finish, running=asyncio.Semaphore(settings.in_flight))
    notes = tuple(_notes(unfetched, with_credentials={credential.host for credential in policy.credentials}))
    return SecondObservation(differing_count=differing_count, unfetched_count=len(unfetched), notes=notes)


def _notes(unfetched: Sequence[Segment], *, with_credentials: Set[str]) -> Iterator[str]:
    """Why stored segments cannot be fetched once more, and what helps, by host."""
    counts = Counter(urlsplit(segment.url).hostname or urlsplit(segment.url).scheme for segment in unfetched)
    for host, count in sorted(counts.items()):
        if host == "data":
            why = "the playlist held the media itself, and the history has a digest of it"
        elif host == "file":
            why = "the files are gone, or are not below fetch.file_roots"
        elif host in with_credentials:
            why = f"the host refuses what fetch.credentials says, or the media is gone; {_NO_QUERY}"
        else:
            why = f'{_NO_QUERY}; if the host asks for them, write [fetch.credentials."{host}"], else the media is gone'
        yield f"{count} of {host} cannot be fetched: {why}"


def stored_outcomes(history: History, span: HistoryFilter) -> Iterator[Outcome]:
    """The selected outcomes in the order in which they were written."""
    return history.documents.outcomes_in_write_order(stream_id=span.stream_id, since=span.since, until=span.until)


def _difference(stored: QualityEvent, outcome: Outcome) -> str | None:
    if not isinstance(outcome, QualityEvent):
        return f"now unscored: {outcome.reason}: {outcome.detail}"
    if stored.id != outcome.id:
        return f"another id: other scorers were used ({', '.join(score.scorer for score in stored.scores)})"
    score_by_scorer = {score.scorer: score for score in outcome.scores}
    for before in stored.scores:
        # A heavy scorer that ran in only one of the two observations makes no difference.
        after = score_by_scorer.get(before.scorer)
        if after is not None and before.frame_values != after.frame_values:
            return f"{before.scorer} {before.value:.3f} became {after.value:.3f}"
    return None
