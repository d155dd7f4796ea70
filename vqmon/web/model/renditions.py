"""A rendition as the pages show it: its state, why, and its numbers, from what the history says."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2s

from vqmon.core.timeline import RenditionState
from vqmon.core.types import Alert
from vqmon.web.addresses import segment_path, stream_path, with_query
from vqmon.web.model.explanations import STATES, band, meaning
from vqmon.web.model.sparklines import Trend, trend

STALE_AFTER_SEGMENTS = 5
STALE_AFTER_SECONDS = 30.0
"""A rendition is stale when nothing came for this many segments, and for at least this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rendition in a table."""

    stream_id: str
    rendition: str
    # of its pictures, in lines
    height: int | None
    detail: str
    state: str
    why: str
    reason: str | None
    scores: Mapping[str, float]
    score: float | None
    band: str
    trend: Trend
    trend_label: str
    # 0..1, of the outcomes in the trend
    unscored_share: float
    last_at: datetime
    # on the media timeline
    last_starts_at: datetime
    last_duration_seconds: float
    last_url: str
    open_alerts: int
    alerts_url: str
    anchor: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One state's part of the bar over the fleet, in thousandths."""

    state: str
    x: float
    width: float


def rows_of(states: Iterable[RenditionState], open_alerts: Sequence[Alert], *, now: datetime) -> list[Row]:
    """The rows of these renditions, in the same order."""
    alerts: dict[tuple[str, str], list[Alert]] = {}
    for alert in open_alerts:
        alerts.setdefault((alert.stream_id, alert.rendition), []).append(alert)
    return [_row(it, alerts.get((it.stream_id, it.rendition), []), now=now) for it in states]


def _row(it: RenditionState, alerts: Sequence[Alert], *, now: datetime) -> Row:
    score = next(iter(it.last_scores.values()), None)
    state, why = state_of(it, alerts, now=now)
    unscored = sum(value is None for value in it.trend)
    return Row(
        stream_id=it.stream_id,
        rendition=it.rendition,
        height=it.height,
        detail=_detail(it),
        state=state,
        why=why,
        reason=it.last_reason,
        scores=it.last_scores,
        score=score,
        band="" if score is None else band(score),
        trend=trend(it.trend),
        trend_label=_trend_label(it.trend),
        unscored_share=unscored / len(it.trend) if it.trend else 0.0,
        last_at=it.last_observed_at,
        last_starts_at=it.last_starts_at,
        last_duration_seconds=it.last_duration_seconds,
        last_url=segment_path(it.last_event_id),
        open_alerts=len(alerts),
        alerts_url=with_query("/alerts", stream=it.stream_id),
        anchor="row-" + blake2s(f"{it.stream_id}/{it.rendition}".encode(), digest_size=6).hexdigest(),
        url=stream_path(it.stream_id),
    )


def state_of(it: RenditionState, alerts: Sequence[Alert], *, now: datetime) -> tuple[str, str]:
    """The state of a rendition, a key of `explain.STATES`, and the fact behind it."""
    silence = now - it.last_observed_at
    score = next(iter(it.last_scores.values()), None)
    if silence > timedelta(seconds=max(STALE_AFTER_SECONDS, STALE_AFTER_SEGMENTS * it.last_duration_seconds)):
        return "stale", "no segment for longer than it should take"
    for alert in alerts:
        if alert.severity == "page":
            return "failing", alert.summary
    if it.last_reason is not None:
        return "unscored", meaning(it.last_reason)
    if score is not None and score < 20:
        return "failing", f"the last score is {score:.1f}"
    if alerts:
        return "degraded", alerts[0].summary
    if score is not None and score < 40:
        return "degraded", f"the last score is {score:.1f}"
    return "good", STATES["good"]


def _detail(it: RenditionState) -> str:
    size = f"{it.width}×{it.height}" if it.width and it.height else ""
    rate = f"{it.bitrate_kbps / 1000:.1f} Mb/s" if it.bitrate_kbps else ""
    return " · ".join(part for part in (size, rate) if part)


def _trend_label(values: Sequence[float | None]) -> str:
    scored = [value for value in values if value is not None]
    if not scored:
        return f"No score in the last {len(values)} segments"
    return f"Last {len(values)} segments: {min(scored):.0f} to {max(scored):.0f}, newest score {scored[-1]:.0f}"


# ---- filter, sort, count


def matches(row: Row, *, words: str, state: str | None) -> bool:
    """Whether a row has every word somewhere and is in the state, if one is asked for."""
    text = f"{row.stream_id} {row.rendition} {row.state} {row.reason or ''} {row.detail}".casefold()
    return (state is None or row.state == state) and all(word in text for word in words.casefold().split())


def _name(row: Row) -> tuple[str, str]:
    return row.stream_id.casefold(), row.rendition


WORST_FIRST = {state: rank for rank, state in enumerate(STATES)}
"""The rank of a state; the worst has the lowest."""

SORTS: dict[str, Callable[[Row], tuple[object, ...]]] = {
    "state": lambda row: (WORST_FIRST[row.state], *_name(row)),
    "name": lambda row: _name(row),
    "score": lambda row: (row.score or 0.0, *_name(row)),
    "unscored": lambda row: (row.unscored_share, *_name(row)),
    "last": lambda row: (row.last_at, *_name(row)),
    "alerts": lambda row: (row.open_alerts, *_name(row)),
}
"""How a table of renditions can be sorted, by its name in the address."""

DESCENDING_FIRST = {"unscored", "last", "alerts"}


def sentence_of(rows: Sequence[Row]) -> str:
    """The fleet in one sentence.

    >>> sentence_of([])
    'Nothing is watched.'
    """
    if not rows:
        return "Nothing is watched."
    count = Counter(row.state for row in rows)
    streams = len({row.stream_id for row in rows})
    what = f"{plural(len(rows), 'rendition')} of {plural(streams, 'stream')}: "
    if count["good"] == len(rows):
        return what + "all good."
    return what + ", ".join(f"{count[state]} {state}" for state in STATES if count[state]) + "."


def shares_of(rows: Sequence[Row]) -> list[Share]:
    """How the fleet divides into states, worst first, with a hair between the parts."""
    count = Counter(row.state for row in rows)
    parts: list[Share] = []
    x = 0.0
    for state in STATES:
        width = 1000 * count[state] / max(1, len(rows))
        if width:
            parts.append(Share(state=state, x=round(x, 1), width=round(max(width - 3, 2), 1)))
        x += width
    return parts


def plural(count: int, noun: str) -> str:
    """
    >>> plural(1, "stream"), plural(2, "stream")
    ('1 stream', '2 streams')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"
