"""The alerts: what is open, what was, and one with all that was seen."""

from datetime import datetime

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.types import Alert
from vqmon.web.addresses import EVENT_ID, stream_path, with_query
from vqmon.web.incident import CAUSES, before_of, change_words, curve_of, moved_of, related
from vqmon.web.site import Site, full, span

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
