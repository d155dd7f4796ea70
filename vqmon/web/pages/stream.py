"""The page of a stream: its scores over time, its renditions now, its signals and its latest segments."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.timeline import RenditionState, TimeBucket, TimelinePoint
from vqmon.core.types import Alert
from vqmon.web.charts.control_charts import (
    MAX_MARKERS,
    MonitoredSeries,
    baseline_bands,
    evidence_plot,
    markers_in_range,
    monitored_series,
)
from vqmon.web.charts.series import (
    MAX_BUCKETS,
    MAX_TABLE_ROWS,
    PointsByRendition,
    bucket_caption,
    chart_caption,
    group_by_rendition,
    reason_label,
    reference_charts,
    references_label,
    scorer_names,
    signal_charts,
    strongest_signal_label,
    table_rows,
)
from vqmon.web.model.renditions import rendition_rows
from vqmon.web.model.sparklines import SPARKLINE_POINTS
from vqmon.web.model.time_range import PRESETS, TimeRange, parse_time_range
from vqmon.web.pages.deploys import may_announce
from vqmon.web.site import Site
from vqmon.web.urls import quote_stream_id, stream_path, unquote_stream_id, with_query

MAX_POINTS = 6000
"""Segments that are read one by one; a range with more is read in buckets."""

RECENT_POINTS = 600
"""Segments that are read one by one, for tables, where the chart is drawn from buckets."""

_LATEST_SEGMENTS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamView:
    """What the URL of a stream selects, with the data for it."""

    stream_id: str
    range: TimeRange
    states: Sequence[RenditionState]
    points: Sequence[TimelinePoint]
    points_by_rendition: PointsByRendition
    # empty unless the range holds more segments than `points`
    buckets: Sequence[TimeBucket]
    alerts: Sequence[Alert]
    monitored: Sequence[MonitoredSeries]
    # deploys and other deliberate changes
    markers: Sequence[DeployMarker]
    scorers: Sequence[str]
    # the scorer whose scores are shown
    scorer: str

    def url(self, path: str, **changes: str) -> str:
        """Another path with the query parameters of this view, with `changes` applied."""
        return with_query(path, **{**self.range.query, "scorer": self.scorer, **changes})


def load_stream_view(site: Site, request: Request, *, max_points: int | None = None) -> StreamView:
    """Read from the history what the URL selects; raises 404.

    With `max_points`, the newest segments of the range are all read one by one, up to that number; without, a range
    with many segments is read in buckets.
    """
    stream_id = unquote_stream_id(request.path_params["stream_id"])
    states = site.history.renditions(stream_id=stream_id, trend=SPARKLINE_POINTS) if stream_id else []
    if not stream_id or not states:
        raise HTTPException(404, "The history has no stream of that name.")
    newest_at = max(state.last_starts_at for state in states)
    time_range = parse_time_range(request.query_params, newest_at=newest_at, now=site.now())
    names = [state.rendition for state in states]
    limit = max_points or (MAX_POINTS if _expected_segments(states, time_range) <= MAX_POINTS else RECENT_POINTS)
    begins_at, ends_at = time_range.begins_at, time_range.ends_at
    points = site.history.points(stream_id, begins_at=begins_at, ends_at=ends_at, limit=limit)
    scorers = scorer_names(points) or sorted({name for state in states for name in state.last_scores}) or ["score"]
    requested = request.query_params.get("scorer")
    scorer = requested if requested in scorers else scorers[0]
    buckets: Sequence[TimeBucket] = ()
    if max_points is None and len(points) >= limit:
        buckets = site.history.buckets(
            stream_id, begins_at=begins_at, ends_at=ends_at, count=MAX_BUCKETS, scorer=scorer
        )
    first_at = points[0].starts_at if points else None
    return StreamView(
        stream_id=stream_id,
        range=time_range if buckets else time_range.without_empty_start(first_at),
        states=states,
        points=points,
        points_by_rendition=group_by_rendition(points, names),
        buckets=buckets,
        alerts=_alerts_in_range(site, stream_id, time_range),
        monitored=monitored_series(site.history.states_of_stream(stream_id), stream_id, names),
        markers=markers_in_range(site.history.markers(limit=MAX_MARKERS), stream_id, names, time_range),
        scorers=scorers,
        scorer=scorer,
    )


def _alerts_in_range(site: Site, stream_id: str, time_range: TimeRange) -> list[Alert]:
    return [
        alert
        for alert in site.history.alerts(stream_id=stream_id)
        if alert.began_at <= time_range.ends_at and (alert.resolved_at or time_range.ends_at) >= time_range.begins_at
    ]


def _expected_segments(states: Sequence[RenditionState], time_range: TimeRange) -> float:
    """About how many segments the range holds if none is missing."""
    seconds = time_range.length.total_seconds()
    return sum(seconds / max(state.last_duration_seconds, 1.0) for state in states)


def stream_page(site: Site, request: Request) -> Response:
    """Answer `/streams/{stream_id}`."""
    view = load_stream_view(site, request)
    signals, quiet_signals = signal_charts({} if view.buckets else view.points_by_rendition, view.range)
    chart_path = f"/api/streams/{quote_stream_id(view.stream_id)}/points"
    open_alerts = [alert for alert in view.alerts if alert.state == "open"]
    return site.render_page(
        "stream.html",
        request,
        stream_id=view.stream_id,
        ranges=_range_links(view),
        scorers=[_scorer_link(view, name) for name in view.scorers],
        scorer=view.scorer,
        is_live=view.range.is_live,
        legend=list(view.points_by_rendition),
        caption=bucket_caption(view.buckets, view.alerts, view.scorer)
        if view.buckets
        else chart_caption(view.points_by_rendition, view.alerts, view.scorer),
        points_url=view.url(chart_path),
        csv_url=view.url(f"{chart_path}.csv"),
        table=table_rows(view.points_by_rendition, view.scorer),
        is_table_cut=len({point.starts_at for point in view.points}) > MAX_TABLE_ROWS,
        is_table_open=request.query_params.get("table") == "open",
        rows=rendition_rows(view.states, open_alerts, now=site.now()),
        alerts=view.alerts,
        has_unscored=any(bucket.unscored for bucket in view.buckets) or any(point.reason for point in view.points),
        signals=signals,
        quiet_signals=quiet_signals,
        references=reference_charts({} if view.buckets else view.points_by_rendition, view.range),
        monitored=view.monitored,
        markers=view.markers,
        may_announce=may_announce(site, request),
        evidence=None
        if view.buckets
        else evidence_plot(view.monitored, view.points_by_rendition, view.scorer, view.range),
        has_band=bool(baseline_bands(view.monitored, view.scorer)),
        latest=[_latest_segment(point, view.scorer) for point in reversed(view.points[-_LATEST_SEGMENTS:])],
    )


def _range_links(view: StreamView) -> list[dict[str, object]]:
    path = stream_path(view.stream_id)
    links: list[dict[str, object]] = [
        {
            "key": preset,
            "label": label,
            "url": with_query(path, last=preset, scorer=view.scorer),
            "is_current": preset == view.range.preset,
        }
        for preset, (label, _) in PRESETS.items()
    ]
    if view.range.preset is None:
        links.append({"key": "chosen", "label": "custom", "url": view.url(path), "is_current": True})
    return links


def _scorer_link(view: StreamView, scorer: str) -> dict[str, object]:
    url = view.url(stream_path(view.stream_id), scorer=scorer)
    return {"label": scorer, "url": url, "is_current": scorer == view.scorer}


def _latest_segment(point: TimelinePoint, scorer: str) -> dict[str, object]:
    return {
        "event_id": point.event_id,
        "at": point.starts_at,
        "rendition": point.rendition,
        "value": point.scores.get(scorer),
        "reason": reason_label(point.reason_of(scorer)),
        "worst_signal": strongest_signal_label(point.signals),
        "references": references_label(point.references),
    }
