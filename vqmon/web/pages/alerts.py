"""The page that lists alerts, and the page of one alert with its evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.alerts.annotations import DeployMarker
from vqmon.core.timeline import TimelinePoint
from vqmon.core.types import Alert, HeatMap
from vqmon.web.charts.control_charts import MAX_MARKERS
from vqmon.web.charts.series import scorer_names
from vqmon.web.charts.svg import (
    Plot,
    ReferenceLine,
    Scale,
    Shape,
    format_number,
    format_signed,
    line_path,
    time_scale,
    time_ticks,
    vertical_scale,
)
from vqmon.web.model.heat_maps import MapChoice, MapLayer, map_choices, map_layers
from vqmon.web.pages.frame_pairs import FramePair
from vqmon.web.site import Site, format_date_time, format_duration
from vqmon.web.urls import EVENT_ID_PATTERN, stream_path, with_query

MAX_ALERTS = 200
_MAX_CHART_MARGIN = timedelta(hours=6)
_MAX_CHART_POINTS = 2000
_CHART_HEIGHT = 200
_BEFORE_PICTURE_WINDOW = timedelta(minutes=10)
"""How long before a change a picture of a good segment is looked for."""

_CAUSE_SENTENCES = {
    "source": "The source got worse: the input of the encoder is already bad.",
    "encoder": "The encoder or enhancer: its best rendition got worse, the source did not.",
    "packaging": "One rendition alone got worse: check its encoding settings and packaging.",
    "scorer": "The scorer itself: many streams changed together, or the scorer was replaced.",
}
"""Cause of a regression -> sentence."""


# ---- pages


def alerts_page(site: Site, request: Request) -> Response:
    """Answer `/alerts`: open alerts, then recently resolved ones."""
    stream_id = request.query_params.get("stream") or None
    recent = site.history.alerts(stream_id=stream_id, limit=MAX_ALERTS)
    open_alerts = [alert for alert in site.fleet.open_alerts() if stream_id in (None, alert.stream_id)][:MAX_ALERTS]
    resolved = [alert for alert in recent if alert.state == "resolved"]
    return site.render_page("alerts.html", request, open=open_alerts, resolved=resolved, q=stream_id)


def open_alert_count(site: Site, request: Request) -> Response:
    """Answer `/alerts/count`: the number of open alerts, for the header of every page."""
    return site.render_page("_count.html", request)


def alert_page(site: Site, request: Request) -> Response:
    """Answer `/alerts/{alert_id}`."""
    alert = requested_alert(site, request)
    chart = _score_chart(site, alert)
    explained_by, explains = _related_alerts(site, alert)
    heat_maps = site.history.evidence_heat_maps(alert.id)
    maps = map_choices(heat_maps)
    pictures = _evidence_pictures(site, alert, heat_maps, maps)
    urgency = "wakes someone" if alert.severity == "page" else "can wait until the morning"
    facts = (
        ("Rule", alert.rule),
        ("Severity", f"{alert.severity}: {urgency}"),
        ("Series", alert.series),
        ("Alert id", alert.id),
    )
    return site.render_page(
        "alert.html",
        request,
        alert=alert,
        sentence=_state_sentence(alert, now=site.now()),
        pictures=pictures,
        maps=maps,
        chart=chart,
        no_chart="" if chart else _no_chart_sentence(site, alert),
        chart_url=with_query(stream_path(alert.stream_id), **chart.query) if chart else "",
        change=_change_sentence(alert),
        cause=_CAUSE_SENTENCES.get(alert.cause, ""),
        moved=_moved_measures(alert),
        explained_by=explained_by,
        explains=explains,
        before_and_after=_before_and_after(site, alert, [picture.layers for picture in pictures]),
        facts=facts + tuple((name, value) for name, value in sorted(alert.labels.items())),
    )


def requested_alert(site: Site, request: Request) -> Alert:
    """The alert that the path names; raises 404."""
    alert_id = request.path_params["alert_id"]
    alert = site.history.alert(alert_id) if EVENT_ID_PATTERN.fullmatch(alert_id) else None
    if alert is None:
        raise HTTPException(404, "There is no such alert, or the history no longer holds it.")
    return alert


# ---- sentences and tables


def _state_sentence(alert: Alert, *, now: datetime) -> str:
    if alert.resolved_at:
        return f"The condition held for {format_duration(alert.resolved_at - alert.began_at)}."
    return f"The condition still holds; it began {format_duration(now - alert.began_at)} ago."


def _change_sentence(alert: Alert) -> str:
    """By how much and when the level changed; empty when the alert names no change."""
    if alert.change is None:
        return ""
    change = alert.change
    difference = change.after - change.before
    return (
        f"{'Fell' if difference < 0 else 'Rose'} from {change.before:.1f} to {change.after:.1f} at "
        f"{format_date_time(change.at)}: {format_signed(difference)} points "
        f"({format_signed(change.low)} to {format_signed(change.high)})."
    )


def _moved_measures(alert: Alert) -> list[dict[str, object]]:
    """Signals and scores that changed at the same time."""
    return [
        {"name": moved.name.replace("_", " "), "before": moved.before, "after": moved.after} for moved in alert.moved
    ]


def _related_alerts(site: Site, alert: Alert) -> tuple[Alert | None, list[Alert]]:
    """The alert that mutes this one, and the alerts that this one mutes."""
    muted_by = site.history.alert(alert.muted_by) if alert.muted_by else None
    candidates = site.history.alerts(since=alert.began_at)
    return muted_by, [candidate for candidate in candidates if candidate.muted_by == alert.id]


@dataclass(frozen=True, slots=True, kw_only=True)
class _EvidencePicture:
    """One of the worst frames."""

    # "" for a frame with a heat map whose picture is not stored
    url: str
    time_seconds: float
    caption: str
    alt: str
    layers: Sequence[MapLayer]


def _evidence_pictures(
    site: Site, alert: Alert, heat_maps: Sequence[HeatMap], maps: Sequence[MapChoice]
) -> list[_EvidencePicture]:
    """The worst frames with a picture or a heat map, worst first."""
    times, picture_count = alert.evidence.worst_times_seconds, len(site.history.evidence(alert.id))
    pictures = []
    for number in range(max(picture_count, len(times))):
        layers = map_layers(heat_maps, number, maps)
        if number >= picture_count and not layers:
            continue
        caption = f"{times[number]:.2f} s into the segment" if number < len(times) else "from the segment"
        pictures.append(
            _EvidencePicture(
                url=f"/alerts/{alert.id}/frames/{number}.jpg" if number < picture_count else "",
                time_seconds=times[number] if number < len(times) else 0.0,
                caption=caption,
                alt=f"Worst frame {number + 1}, {caption}",
                layers=layers,
            )
        )
    return pictures


def _before_and_after(site: Site, alert: Alert, layers: Sequence[Sequence[MapLayer]]) -> list[FramePair]:
    """Each worst frame, with its layers, and a frame from before the change; empty when the pictures are deleted."""
    changed_at = min(alert.began_at, alert.change.at) if alert.change else alert.began_at
    earlier = site.history.points(
        alert.stream_id,
        begins_at=changed_at - _BEFORE_PICTURE_WINDOW,
        ends_at=changed_at,
        limit=5,
        rendition=alert.rendition,
    )
    times = alert.evidence.worst_times_seconds
    worst_count = min(len(site.history.evidence(alert.id)), len(times))
    for point in reversed(earlier):
        count = len(site.history.thumbnails(point.event_id)) if point.reason is None else 0
        if count and worst_count:
            return [
                FramePair(
                    number=number,
                    seconds=times[number],
                    a_url=f"/segments/{point.event_id}/frames/{min(number, count - 1)}.jpg",
                    b_url=f"/alerts/{alert.id}/frames/{number}.jpg",
                    b_layers=layers[number],
                )
                for number in range(worst_count)
            ]
    return []


# ---- chart


@dataclass(frozen=True, slots=True, kw_only=True)
class _ScoreChart:
    """The scores around an alert, and the query parameters that show the same time on the stream's page."""

    title: str
    plot: Plot
    query: Mapping[str, str]


def _score_chart(site: Site, alert: Alert) -> _ScoreChart | None:
    """The scores before, during and after the alert; None with fewer than two outcomes."""
    ends_at = alert.resolved_at or site.now()
    begins_at = min(alert.began_at, alert.change.at) if alert.change else alert.began_at
    margin = max(timedelta(seconds=60), min(ends_at - begins_at, _MAX_CHART_MARGIN) / 2)
    points = site.history.points(
        alert.stream_id,
        begins_at=begins_at - margin,
        ends_at=ends_at + margin,
        limit=_MAX_CHART_POINTS,
        rendition=alert.rendition,
    )
    scorer = _scorer_of_series(alert, points)
    if scorer is None or len(points) < 2:
        return None
    return _draw_scores(site, alert, points, scorer)


def _no_chart_sentence(site: Site, alert: Alert) -> str:
    """Why there are no scores to draw."""
    names = {row.rendition for row in site.fleet.rows() if row.stream_id == alert.stream_id}
    if alert.rendition not in names:
        return "This alert is about no single rendition, so there is no series of scores to draw."
    return (
        "The history has fewer than two scored segments of this time: none was scored, or they are older than "
        "history.keep_days and were deleted."
    )


def _scorer_of_series(alert: Alert, points: Sequence[TimelinePoint]) -> str | None:
    """The scorer whose series the rule follows, else the first one that scored these points."""
    scorers = scorer_names(points)
    series_parts = alert.series.split("/")
    return next(
        (name for name in scorers if name in alert.series or name.split("@")[0] in series_parts),
        next(iter(scorers), None),
    )


def _draw_scores(site: Site, alert: Alert, points: Sequence[TimelinePoint], scorer: str) -> _ScoreChart:
    begins_at, ends_at = points[0].starts_at, max(points[-1].starts_at, alert.opened_at)
    x, y = time_scale(begins_at, ends_at), vertical_scale(0.0, 100.0, height=_CHART_HEIGHT)
    scores = [(x(point.starts_at.timestamp()), _position(y, point.scores.get(scorer))) for point in points]
    left, right = 10 * x(alert.began_at.timestamp()), 10 * x((alert.resolved_at or ends_at).timestamp())
    lines, explanation = _reference_lines(site, alert, scorer, x=x, y=y, begins_at=begins_at, ends_at=ends_at)
    shaded = f"M{left:.1f} 0H{max(right, left + 2):.1f}V{_CHART_HEIGHT}H{left:.1f}Z"
    return _ScoreChart(
        title=f"{scorer} before, during and after",
        plot=Plot(
            label=f"Scores of {alert.rendition} by {scorer}, 0 to 100, from {format_date_time(begins_at)} to "
            f"{format_date_time(ends_at)}. The condition held in the shaded time; the alert opened at the solid "
            f"vertical line{explanation}.",
            height=_CHART_HEIGHT,
            y_ticks=y.ticks(),
            x_ticks=time_ticks(begins_at, ends_at),
            shapes=[
                Shape(path=shaded, css_class="held"),
                *_level_shapes(alert, x=x, y=y, ends_at=ends_at),
                Shape(path=line_path(scores), css_class="s c0"),
            ],
            reference_lines=lines,
        ),
        query={
            "from": begins_at.isoformat(),
            "to": (ends_at + timedelta(seconds=1)).isoformat(),
            "scorer": scorer,
        },
    )


def _position(y: Scale, score: float | None) -> float | None:
    return None if score is None else y(score)


def _reference_lines(
    site: Site, alert: Alert, scorer: str, *, x: Scale, y: Scale, begins_at: datetime, ends_at: datetime
) -> tuple[list[ReferenceLine], str]:
    """The lines for opening, limit, change and deploys, and the rest of the sentence that explains them."""
    lines = [ReferenceLine(css_class="opened", x=x(alert.opened_at.timestamp()))]
    explanation = ""
    limit = alert.evidence.threshold if scorer in f"{alert.series} {alert.evidence.reading}" else None
    if limit is not None and 0 < limit <= 100:
        lines.append(ReferenceLine(css_class="limit", y=y(limit), label=f"limit {format_number(limit)}"))
        explanation += f", and the dashed line is the limit of {format_number(limit)}"
    if alert.change is not None and begins_at <= alert.change.at:
        lines.append(ReferenceLine(css_class="changed", x=x(alert.change.at.timestamp())))
        explanation += "; the level changed at the vertical line before it"
    deploys = _markers_within(site, alert, begins_at, ends_at)
    lines += [ReferenceLine(css_class="deploy", x=x(marker.at.timestamp()), label=marker.name) for marker in deploys]
    if deploys:
        explanation += f"; dotted vertical lines are deploys: {', '.join(marker.name for marker in deploys)}"
    return lines, explanation


def _markers_within(site: Site, alert: Alert, begins_at: datetime, ends_at: datetime) -> list[DeployMarker]:
    return [
        marker
        for marker in site.history.markers(limit=MAX_MARKERS)
        if marker.matches(alert.stream_id, alert.rendition) and begins_at <= marker.at <= ends_at
    ]


def _level_shapes(alert: Alert, *, x: Scale, y: Scale, ends_at: datetime) -> list[Shape]:
    """Horizontal lines at the level before and after the change; none for a series of differences."""
    if alert.change is None or "~" in alert.series or not 0 <= alert.change.before <= 100:
        return []
    changed_x = 10 * x(alert.change.at.timestamp())
    end_x = 10 * x((alert.resolved_at or ends_at).timestamp())
    return [
        Shape(path=f"M0 {y(alert.change.before):.1f}H{changed_x:.1f}", css_class="level"),
        Shape(path=f"M{changed_x:.1f} {y(alert.change.after):.1f}H{max(end_x, changed_x):.1f}", css_class="level"),
    ]
