"""The alerts: what is open, what was, and one with all that was seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.types import Alert
from vqmon.web.addresses import EVENT_ID, stream_path, with_query
from vqmon.web.curves import polyline
from vqmon.web.history import Point
from vqmon.web.site import Site, full, span

MAX_ALERTS = 200
MAX_MARGIN = timedelta(hours=6)
MAX_POINTS = 2000


def alerts(site: Site, request: Request) -> Response:
    """Open alerts, then those resolved lately."""
    stream_id = request.query_params.get("stream") or None
    known = site.history.alerts(stream_id=stream_id, limit=MAX_ALERTS)
    still_open = [it for it in site.standing.open_alerts() if stream_id in (None, it.stream_id)][:MAX_ALERTS]
    resolved = [alert for alert in known if alert.state == "resolved"]
    return site.page("alerts.html", request, open=still_open, resolved=resolved, q=stream_id)


def open_count(site: Site, request: Request) -> Response:
    """How many alerts are open, for the head of a page."""
    return site.page("_count.html", request)


def alert(site: Site, request: Request) -> Response:
    """One alert with what was seen."""
    it = alert_asked(site, request)
    pictures = [
        {"url": f"/alerts/{it.id}/frames/{number}.jpg", **_about_picture(it, number)}
        for number in range(len(site.history.evidence(it.id)))
    ]
    facts = (
        ("Rule", it.rule),
        ("Severity", f"{it.severity}: {'wakes someone' if it.severity == 'page' else 'can wait for the day'}"),
        ("Series", it.series),
        ("Began", full(it.began_at)),
        ("Opened", full(it.opened_at)),
        ("Resolved", full(it.resolved_at) if it.resolved_at else "not yet"),
        ("Alert id", it.id),
    )
    return site.page(
        "alert.html",
        request,
        alert=it,
        sentence=_sentence(it, now=site.now()),
        pictures=pictures,
        curve=_curve(site, it),
        facts=facts,
    )


def alert_asked(site: Site, request: Request) -> Alert:
    """The alert that the path names; raises 404."""
    alert_id = request.path_params["alert_id"]
    it = site.history.alert(alert_id) if EVENT_ID.fullmatch(alert_id) else None
    if it is None:
        raise HTTPException(404, "There is no such alert, or it is older than what the history keeps.")
    return it


def _sentence(it: Alert, *, now: datetime) -> str:
    if it.resolved_at:
        return f"It is over: the condition held for {span(it.resolved_at - it.began_at)}."
    return f"It still holds; it began {span(now - it.began_at)} ago."


def _about_picture(it: Alert, number: int) -> dict[str, str]:
    times = it.evidence.worst_times_seconds
    where = f"{times[number]:.2f} s into the segment" if number < len(times) else "from the segment"
    return {"caption": where, "alt": f"Worst frame {number + 1}, {where}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The scores around an alert, 1000 wide and 120 high."""

    title: str
    label: str
    line: str
    held_x: float
    held_width: float
    opened_x: float
    # where the limit of the rule is, if it looks at these scores
    limit_y: float | None
    url: str


def _curve(site: Site, it: Alert) -> Curve | None:
    ending = it.resolved_at or site.now()
    margin = max(timedelta(seconds=60), min(ending - it.began_at, MAX_MARGIN) / 2)
    found = site.history.points(it.stream_id, begins_at=it.began_at - margin, ends_at=ending + margin, limit=MAX_POINTS)
    points = [point for point in found if point.rendition == it.rendition]
    scorer = _scorer_of(it, points)
    if scorer is None or len(points) < 2:
        return None
    return _drawn(it, points, scorer)


def _drawn(it: Alert, points: Sequence[Point], scorer: str) -> Curve:
    begins_at, ends_at = points[0].starts_at, max(points[-1].starts_at, it.opened_at)
    length = max(ends_at - begins_at, timedelta(seconds=1))

    def x(at: datetime) -> float:
        return min(1.0, max(0.0, (at - begins_at) / length))

    spots = [(x(point.starts_at), _share(point.scores.get(scorer))) for point in points]
    held_x, held_end = 1000 * x(it.began_at), 1000 * x(it.resolved_at or ends_at)
    limit = it.evidence.threshold if scorer in f"{it.series} {it.evidence.reading}" else None
    within = {"from": begins_at.isoformat(), "to": (ends_at + timedelta(seconds=1)).isoformat(), "scorer": scorer}
    return Curve(
        title=f"{scorer} around it",
        label=f"Scores of {it.rendition} by {scorer}, 0 to 100, from {full(begins_at)} to {full(ends_at)}. "
        "Shaded where the condition held; the upright line marks when the alert opened"
        + (f", the dashed one is the limit of {limit:g}." if limit is not None else "."),
        line=polyline(spots, width=1000, height=120),
        held_x=round(held_x, 1),
        held_width=round(max(2.0, held_end - held_x), 1),
        opened_x=round(1000 * x(it.opened_at), 1),
        limit_y=None if limit is None or not 0 <= limit <= 100 else round(1 + (1 - limit / 100) * 118, 1),
        url=with_query(stream_path(it.stream_id), **within),
    )


def _scorer_of(it: Alert, points: Sequence[Point]) -> str | None:
    names = sorted({scorer for point in points for scorer in point.scores})
    return next((name for name in names if name in it.series), names[0] if names else None)


def _share(score: float | None) -> float | None:
    return None if score is None else score / 100
