"""One stream: its scores over time, its renditions now, its signals and its latest segments."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.alerts.annotations import Marker
from vqmon.core.timeline import RenditionState, TimeBucket, TimelinePoint
from vqmon.core.types import Alert
from vqmon.web.addresses import quote_stream, stream_path, unquote_stream, with_query
from vqmon.web.charts.control_charts import MAX_MARKERS, Watch, bands_of, evidence_plot, markers_of, watches_of
from vqmon.web.charts.series import (
    MAX_BUCKETS,
    MAX_TABLE_LINES,
    Lines,
    bucket_caption,
    caption_of,
    lines_of,
    reason_words,
    scorers_of,
    signals_of,
    table_of,
    worst_signal,
)
from vqmon.web.model.renditions import rows_of
from vqmon.web.model.sparklines import TREND_PLACES
from vqmon.web.model.time_range import RANGES, Range, range_of
from vqmon.web.site import Site

MAX_POINTS = 6000
"""Segments read one by one; a range with more is drawn in parts."""

RECENT_POINTS = 600
"""Segments read one by one where the rest of a range is drawn in parts."""

LATEST = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What an address of a stream asks for, and what there is."""

    stream_id: str
    range: Range
    states: Sequence[RenditionState]
    points: Sequence[TimelinePoint]
    lines: Lines
    # the range in parts, when it holds more than `points`
    buckets: Sequence[TimeBucket]
    alerts: Sequence[Alert]
    # what the rules make of its series now, and what was changed on purpose
    watches: Sequence[Watch]
    markers: Sequence[Marker]
    scorers: Sequence[str]
    # the scorer whose scores are shown
    scorer: str

    def url(self, path: str, **other: str) -> str:
        """The same range and scorer at another address."""
        return with_query(path, **{**self.range.query, "scorer": self.scorer, **other})


def asked_of(site: Site, request: Request, *, limit: int | None = None) -> Asked:
    """Read the address and the history; raises 404. Without a limit, a range with many segments comes in parts."""
    stream_id = unquote_stream(request.path_params["stream_id"])
    states = site.history.renditions(stream_id=stream_id, trend=TREND_PLACES) if stream_id else []
    if not stream_id or not states:
        raise HTTPException(404, "No stream of that name has been seen.")
    newest_at = max(state.last_starts_at for state in states)
    span = range_of(request.query_params, newest_at=newest_at, now=site.now())
    names = [state.rendition for state in states]
    most = limit or (MAX_POINTS if expected_in(states, span) <= MAX_POINTS else RECENT_POINTS)
    points = site.history.points(stream_id, begins_at=span.begins_at, ends_at=span.ends_at, limit=most)
    known = site.history.alerts(stream_id=stream_id)
    scorers = scorers_of(points) or sorted({scorer for state in states for scorer in state.last_scores}) or ["score"]
    wanted = request.query_params.get("scorer")
    scorer = wanted if wanted in scorers else scorers[0]
    buckets: Sequence[TimeBucket] = ()
    if limit is None and len(points) >= most:
        within = {"begins_at": span.begins_at, "ends_at": span.ends_at}
        buckets = site.history.buckets(stream_id, **within, count=MAX_BUCKETS, scorer=scorer)
    return Asked(
        stream_id=stream_id,
        range=span if buckets else span.fitted(points[0].starts_at if points else None),
        states=states,
        points=points,
        lines=lines_of(points, names),
        buckets=buckets,
        alerts=[
            it for it in known if it.began_at <= span.ends_at and (it.resolved_at or span.ends_at) >= span.begins_at
        ],
        watches=watches_of(site.history.states_of_stream(stream_id), stream_id, names),
        markers=markers_of(site.history.markers(limit=MAX_MARKERS), stream_id, names, span),
        scorers=scorers,
        scorer=scorer,
    )


def expected_in(states: Sequence[RenditionState], span: Range) -> float:
    """About how many segments there are in a range, if none is missing."""
    return sum(span.length.total_seconds() / max(it.last_duration_seconds, 1.0) for it in states)


def stream(site: Site, request: Request) -> Response:
    """Answer `/streams/{stream_id}`."""
    it = asked_of(site, request)
    table = table_of(it.lines, it.scorer)
    signals, quiet_signals = signals_of({} if it.buckets else it.lines, it.range)
    api = f"/api/streams/{quote_stream(it.stream_id)}/points"
    open_alerts = [alert for alert in it.alerts if alert.state == "open"]
    return site.page(
        "stream.html",
        request,
        stream_id=it.stream_id,
        ranges=_ranges(it),
        scorers=[_scorer(it, name) for name in it.scorers],
        scorer=it.scorer,
        follows=it.range.follows,
        legend=list(it.lines),
        caption=bucket_caption(it.buckets, it.alerts, it.scorer)
        if it.buckets
        else caption_of(it.lines, it.alerts, it.scorer),
        points_url=it.url(api),
        csv_url=it.url(f"{api}.csv"),
        table=table,
        table_left_out=len({point.starts_at for point in it.points}) > MAX_TABLE_LINES,
        table_open=request.query_params.get("table") == "open",
        rows=rows_of(it.states, open_alerts, now=site.now()),
        alerts=it.alerts,
        has_unscored=any(part.unscored for part in it.buckets) or any(point.reason for point in it.points),
        signals=signals,
        quiet_signals=quiet_signals,
        watches=it.watches,
        markers=it.markers,
        evidence=None if it.buckets else evidence_plot(it.watches, it.lines, it.scorer, it.range),
        has_band=bool(bands_of(it.watches, it.scorer)),
        latest=[_latest(point, it.scorer) for point in list(it.points)[: -LATEST - 1 : -1]],
    )


def _ranges(it: Asked) -> list[dict[str, object]]:
    page = stream_path(it.stream_id)
    ranges: list[dict[str, object]] = [
        {
            "key": key,
            "label": label,
            "url": with_query(page, last=key, scorer=it.scorer),
            "is_current": key == it.range.name,
        }
        for key, (label, _) in RANGES.items()
    ]
    if not it.range.follows:
        ranges.append({"key": "chosen", "label": "as chosen", "url": it.url(page), "is_current": True})
    return ranges


def _scorer(it: Asked, name: str) -> dict[str, object]:
    return {"label": name, "url": it.url(stream_path(it.stream_id), scorer=name), "is_current": name == it.scorer}


def _latest(point: TimelinePoint, scorer: str) -> dict[str, object]:
    return {
        "event_id": point.event_id,
        "at": point.starts_at,
        "rendition": point.rendition,
        "value": point.scores.get(scorer),
        "reason": reason_words(point.reason),
        "worst_signal": worst_signal(point.signals),
    }
