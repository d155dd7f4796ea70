"""A rendition as the pages show it: its state, the reason for that state, and its numbers."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2s

from vqmon.core.alerts.annotations import END_REASON_TEXTS
from vqmon.core.scores import score_band
from vqmon.core.timeline import RenditionState
from vqmon.core.types import Alert
from vqmon.plurals import plural
from vqmon.web.model.explanations import STATE_DESCRIPTIONS, reason_sentence
from vqmon.web.model.sparklines import Sparkline, draw_sparkline
from vqmon.web.urls import segment_path, stream_path, with_query

_STALE_AFTER_SEGMENTS = 5
_STALE_AFTER_SECONDS = 30.0
"""A rendition is stale when nothing came for the length of this many segments, and for at least this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenditionRow:
    """One rendition as a row of a table."""

    stream_id: str
    rendition: str
    # height of the picture in lines
    height: int | None
    # picture size and bitrate
    detail: str
    # a key of STATE_DESCRIPTIONS, and why the rendition is in that state
    state: str
    why: str
    # why the last segment is unscored, a key of errors.REASONS
    reason: str | None
    # of the last segment, 0..100 by scorer; `score` is that of the first scorer
    scores: Mapping[str, float]
    score: float | None
    band: str
    sparkline: Sparkline
    sparkline_label: str
    # 0..1, of the segments in the sparkline
    unscored_share: float
    last_observed_at: datetime
    # on the media timeline
    last_starts_at: datetime
    last_duration_seconds: float
    last_event_id: str
    last_segment_url: str
    open_alerts: int
    alerts_url: str
    element_id: str
    url: str
    # of the last segment: scorer that failed -> a key of errors.REASONS
    scorer_failures: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateShare:
    """The part of the fleet that is in one state, as a piece of a bar 1000 wide."""

    state: str
    x: float
    width: float


def rendition_rows(
    states: Iterable[RenditionState], open_alerts: Sequence[Alert], *, now: datetime
) -> list[RenditionRow]:
    """The rows of these renditions, in the same order."""
    alerts: dict[tuple[str, str], list[Alert]] = {}
    for alert in open_alerts:
        alerts.setdefault((alert.stream_id, alert.rendition), []).append(alert)
    return [_row(state, alerts.get((state.stream_id, state.rendition), []), now=now) for state in states]


def _row(rendition: RenditionState, alerts: Sequence[Alert], *, now: datetime) -> RenditionRow:
    score = _main_score(rendition)
    state, why = rendition_state(rendition, alerts, now=now)
    unscored = sum(value is None for value in rendition.trend)
    key = f"{rendition.stream_id}/{rendition.rendition}"
    return RenditionRow(
        stream_id=rendition.stream_id,
        rendition=rendition.rendition,
        height=rendition.height,
        detail=_size_and_bitrate(rendition),
        state=state,
        why=why,
        reason=rendition.last_reason,
        scores=rendition.last_scores,
        score=score,
        band="" if score is None else score_band(score),
        sparkline=draw_sparkline(rendition.trend),
        sparkline_label=_sparkline_label(rendition.trend),
        unscored_share=unscored / len(rendition.trend) if rendition.trend else 0.0,
        last_observed_at=rendition.last_observed_at,
        last_starts_at=rendition.last_starts_at,
        last_duration_seconds=rendition.last_duration_seconds,
        last_event_id=rendition.last_event_id,
        last_segment_url=segment_path(rendition.last_event_id),
        open_alerts=len(alerts),
        alerts_url=with_query("/alerts", stream=rendition.stream_id),
        element_id="row-" + blake2s(key.encode(), digest_size=6).hexdigest(),
        url=stream_path(rendition.stream_id),
        scorer_failures=rendition.last_scorer_failures,
    )


def rendition_state(rendition: RenditionState, alerts: Sequence[Alert], *, now: datetime) -> tuple[str, str]:
    """The state of a rendition, a key of `STATE_DESCRIPTIONS`, and the fact that decides it.

    `alerts` are the open alerts of this rendition.
    """
    silence = now - rendition.last_observed_at
    score = _main_score(rendition)
    limit_seconds = max(_STALE_AFTER_SECONDS, _STALE_AFTER_SEGMENTS * rendition.last_duration_seconds)
    if rendition.end_reason is not None:
        return "ended", END_REASON_TEXTS[rendition.end_reason]
    if silence > timedelta(seconds=limit_seconds):
        return "stale", "no segment has arrived for too long"
    for alert in alerts:
        if alert.severity == "page":
            return "failing", alert.summary
    if rendition.last_reason is not None:
        return "unscored", reason_sentence(rendition.last_reason)
    if score is not None and score < 20:
        return "failing", f"the last score is {score:.1f}"
    if alerts:
        return "degraded", alerts[0].summary
    return _state_by_score(rendition, score)


def _state_by_score(rendition: RenditionState, score: float | None) -> tuple[str, str]:
    if rendition.last_scorer_failures and score is None:
        scorer, reason = next(iter(rendition.last_scorer_failures.items()))
        return "degraded", f"no score by {scorer}: {reason_sentence(reason)}"
    if score is not None and score < 40:
        return "degraded", f"the last score is {score:.1f}"
    return "good", STATE_DESCRIPTIONS["good"]


def _main_score(rendition: RenditionState) -> float | None:
    """The last score of the first scorer; None when it has none, whatever other scorers say."""
    if rendition.trend and rendition.trend[-1] is None:
        return None
    return next(iter(rendition.last_scores.values()), None)


def _size_and_bitrate(rendition: RenditionState) -> str:
    size = f"{rendition.width}×{rendition.height}" if rendition.width and rendition.height else ""
    bitrate = f"{rendition.bitrate_kbps / 1000:.1f}\N{NO-BREAK SPACE}Mb/s" if rendition.bitrate_kbps else ""
    return " · ".join(text for text in (size, bitrate) if text)


def _sparkline_label(values: Sequence[float | None]) -> str:
    scores = [value for value in values if value is not None]
    if not scores:
        return f"No score in the last {plural(len(values), 'segment')}"
    return (
        f"Last {plural(len(values), 'segment')}: {min(scores):.0f} to {max(scores):.0f}, newest score {scores[-1]:.0f}"
    )


# ---- filter, sort, count


def matches_filter(row: RenditionRow, *, search_text: str, state: str | None) -> bool:
    """Whether the row contains every word of `search_text`, and is in the state if that is not None."""
    text = f"{row.stream_id} {row.rendition} {row.state} {row.reason or ''} {row.detail}".casefold()
    return (state is None or row.state == state) and all(word in text for word in search_text.casefold().split())


def _name_key(row: RenditionRow) -> tuple[str, str]:
    return row.stream_id.casefold(), row.rendition


STATE_RANKS = {state: rank for rank, state in enumerate(STATE_DESCRIPTIONS)}
"""State -> rank; the worst state has rank 0."""

SORT_KEYS: dict[str, Callable[[RenditionRow], tuple[object, ...]]] = {
    "state": lambda row: (STATE_RANKS[row.state], *_name_key(row)),
    "name": lambda row: _name_key(row),
    "score": lambda row: (row.score or 0.0, *_name_key(row)),
    "unscored": lambda row: (row.unscored_share, *_name_key(row)),
    "last": lambda row: (row.last_observed_at, *_name_key(row)),
    "alerts": lambda row: (row.open_alerts, *_name_key(row)),
}
"""Orders of a table of renditions: name in the URL -> sort key."""

DESCENDING_BY_DEFAULT = {"unscored", "last", "alerts"}


def fleet_sentence(rows: Sequence[RenditionRow]) -> str:
    """How many renditions are in which state, as one sentence.

    >>> fleet_sentence([])
    'No stream is monitored yet.'
    """
    if not rows:
        return "No stream is monitored yet."
    counts = Counter(row.state for row in rows)
    streams = len({row.stream_id for row in rows})
    subject = f"{plural(len(rows), 'rendition')} of {plural(streams, 'stream')}: "
    if counts["good"] == len(rows):
        return subject + "all good."
    return subject + ", ".join(f"{counts[state]} {state}" for state in STATE_DESCRIPTIONS if counts[state]) + "."


def state_shares(rows: Sequence[RenditionRow]) -> list[StateShare]:
    """How the fleet divides into states, worst first, with a small gap between the pieces."""
    counts = Counter(row.state for row in rows)
    shares: list[StateShare] = []
    x = 0.0
    for state in STATE_DESCRIPTIONS:
        width = 1000 * counts[state] / max(1, len(rows))
        if width:
            shares.append(StateShare(state=state, x=round(x, 1), width=round(max(width - 3, 2), 1)))
        x += width
    return shares
