"""The alerts: what is open, what was, and one with all that was seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.timeline import TimelinePoint
from vqmon.core.types import Alert
from vqmon.web.addresses import EVENT_ID, stream_path, with_query
from vqmon.web.charts.control_charts import MAX_MARKERS
from vqmon.web.charts.series import scorers_of
from vqmon.web.charts.svg import Plot, Rule, Scale, Shape, down, joined, moment_scale, signed, time_ticks
from vqmon.web.pages.frame_pairs import Shot
from vqmon.web.site import Site, full, span

MAX_MARGIN = timedelta(hours=6)
MAX_POINTS = 2000
LOOK_BACK = timedelta(minutes=10)
"""How far before a change a picture of better times is looked for."""

CAUSES = {
    "source": "The source got worse: what goes into the encoder is already bad.",
    "encoder": "The encoder or enhancer: its best rendition got worse, the source did not.",
    "packaging": "One rendition alone got worse: look at its encoding settings and packaging.",
    "scorer": "The scorer itself: many streams moved together, or it was changed.",
}
"""Where a regression comes from, as a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The scores around an alert, and where to see more of them."""

    title: str
    plot: Plot
    url_query: Mapping[str, str]


def change_words(it: Alert) -> str:
    """The change as a sentence; empty when none is known."""
    if it.change is None:
        return ""
    change = it.change
    drop = change.after - change.before
    return (
        f"{'Fell' if drop < 0 else 'Rose'} from {change.before:.1f} to {change.after:.1f} at {full(change.at)}: "
        f"{signed(drop)} points ({signed(change.low)} to {signed(change.high)})."
    )


def curve_of(site: Site, it: Alert) -> Curve | None:
    """The scores before, during and after; None when there are too few."""
    ending = it.resolved_at or site.now()
    beginning = min(it.began_at, it.change.at) if it.change else it.began_at
    margin = max(timedelta(seconds=60), min(ending - beginning, MAX_MARGIN) / 2)
    points = site.history.points(
        it.stream_id,
        begins_at=beginning - margin,
        ends_at=ending + margin,
        limit=MAX_POINTS,
        rendition=it.rendition,
    )
    scorer = _scorer_of(it, points)
    if scorer is None or len(points) < 2:
        return None
    return _drawn(site, it, points, scorer)


def _drawn(site: Site, it: Alert, points: Sequence[TimelinePoint], scorer: str) -> Curve:
    begins_at, ends_at = points[0].starts_at, max(points[-1].starts_at, it.opened_at)
    x, y = moment_scale(begins_at, ends_at), down(0.0, 100.0, height=200)
    spots = [
        (x(point.starts_at.timestamp()), y(point.scores[scorer]) if scorer in point.scores else None)
        for point in points
    ]
    held = (10 * x(it.began_at.timestamp()), 10 * x((it.resolved_at or ends_at).timestamp()))
    limit = it.evidence.threshold if scorer in f"{it.series} {it.evidence.reading}" else None
    limit = limit if limit is not None and 0 < limit <= 100 else None
    rules, words = _rules(site, it, x, y, limit, (begins_at, ends_at))
    return Curve(
        title=f"{scorer} around it",
        plot=Plot(
            label=f"Scores of {it.rendition} by {scorer}, 0 to 100, from {full(begins_at)} to {full(ends_at)}. "
            f"Shaded where the condition held; the upright line marks when the alert opened{words}.",
            height=200,
            y_ticks=y.ticks(),
            x_ticks=time_ticks(begins_at, ends_at),
            shapes=[
                Shape(path=f"M{held[0]:.1f} 0H{max(held[1], held[0] + 2):.1f}V200H{held[0]:.1f}Z", look="held"),
                *_levels(it, x, y, (begins_at, ends_at)),
                Shape(path=joined(spots), look="s c0"),
            ],
            rules=rules,
        ),
        url_query={
            "from": begins_at.isoformat(),
            "to": (ends_at + timedelta(seconds=1)).isoformat(),
            "scorer": scorer,
        },
    )


def _rules(
    site: Site, it: Alert, x: Scale, y: Scale, limit: float | None, within: tuple[datetime, datetime]
) -> tuple[list[Rule], str]:
    rules = [Rule(look="opened", x=x(it.opened_at.timestamp()))]
    words = ""
    if limit is not None:
        rules.append(Rule(look="limit", y=y(limit), label=f"limit {limit:g}"))
        words += f", the dashed one is the limit of {limit:g}"
    if it.change is not None and within[0] <= it.change.at:
        rules.append(Rule(look="changed", x=x(it.change.at.timestamp())))
        words += ", the line before it when the level changed"
    deploys = [
        marker
        for marker in site.history.markers(limit=MAX_MARKERS)
        if marker.fits(it.stream_id, it.rendition) and within[0] <= marker.at <= within[1]
    ]
    rules += [Rule(look="deploy", x=x(marker.at.timestamp()), label=marker.name) for marker in deploys]
    if deploys:
        words += f", the dotted one {', '.join(marker.name for marker in deploys)}"
    return rules, words


def _levels(it: Alert, x: Scale, y: Scale, within: tuple[datetime, datetime]) -> list[Shape]:
    """The level before and since the change."""
    if it.change is None or "~" in it.series or not 0 <= it.change.before <= 100:
        return []
    middle = 10 * x(it.change.at.timestamp())
    end = 10 * x((it.resolved_at or within[1]).timestamp())
    return [
        Shape(path=f"M0 {y(it.change.before):.1f}H{middle:.1f}", look="level"),
        Shape(path=f"M{middle:.1f} {y(it.change.after):.1f}H{max(end, middle):.1f}", look="level"),
    ]


def moved_of(it: Alert) -> list[dict[str, object]]:
    """What moved with it, with both means as shares of 100 for the bars."""
    return [
        {
            "name": one.name.replace("_", " "),
            "before": one.before,
            "after": one.after,
            "full": 100.0 if max(abs(one.before), abs(one.after)) > 1.0 else 1.0,
        }
        for one in it.moved
    ]


def related(site: Site, it: Alert) -> tuple[Alert | None, list[Alert]]:
    """The alert that explains this one, and those that this one explains."""
    cause = site.history.alert(it.muted_by) if it.muted_by else None
    others = site.history.alerts(since=it.began_at)
    return cause, [other for other in others if other.muted_by == it.id]


def before_of(site: Site, it: Alert) -> list[Shot]:
    """The worst frame beside one from before it began, as far as pictures are kept."""
    changed_at = min(it.began_at, it.change.at) if it.change else it.began_at
    points = site.history.points(
        it.stream_id, begins_at=changed_at - LOOK_BACK, ends_at=changed_at, limit=5, rendition=it.rendition
    )
    kept = len(site.history.evidence(it.id))
    for point in reversed(points):
        count = len(site.history.thumbnails(point.event_id)) if point.reason is None else 0
        if count and kept:
            return [
                Shot(
                    number=number,
                    seconds=it.evidence.worst_times_seconds[number],
                    a_url=f"/segments/{point.event_id}/frames/{min(number, count - 1)}.jpg",
                    b_url=f"/alerts/{it.id}/frames/{number}.jpg",
                )
                for number in range(min(kept, len(it.evidence.worst_times_seconds)))
            ]
    return []


def _scorer_of(it: Alert, points: Sequence[TimelinePoint]) -> str | None:
    names = scorers_of(points)
    told = next((name for name in names if name in it.series or name.split("@")[0] in it.series.split("/")), None)
    return told or next(iter(names), None)


MAX_ALERTS = 200


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
    curve = curve_of(site, it)
    explained_by, explains = related(site, it)
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
        curve=curve,
        curve_url=with_query(stream_path(it.stream_id), **curve.url_query) if curve else "",
        change=change_words(it),
        cause=CAUSES.get(it.cause, ""),
        moved=moved_of(it),
        explained_by=explained_by,
        explains=explains,
        shots=before_of(site, it),
        facts=facts + tuple((name, value) for name, value in sorted(it.labels.items())),
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
