"""What the pages show, for programs: JSON and CSV, and the pictures."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vqmon.core.experiments.results import HISTOGRAM_BINS, ArmResult, ArmSummary, Comparison, Effect
from vqmon.core.types import SIGNALS, Alert, Outcome, QualityEvent
from vqmon.web.charts.control_charts import bands_of
from vqmon.web.charts.series import chart_of, mark_of
from vqmon.web.model.renditions import Row, matches
from vqmon.web.pages.alerts import MAX_ALERTS, alert_asked
from vqmon.web.pages.experiments import chosen, effect_asked, experiment_asked
from vqmon.web.pages.segment import outcome_asked
from vqmon.web.pages.stream import asked_of
from vqmon.web.site import Site, iso

MAX_CSV_POINTS = 200_000
FOREVER = "public, max-age=31536000, immutable"

Cells = Iterable[object]


# ---- streams


def streams(site: Site, request: Request) -> Response:
    """Answer `/api/streams?q=&state=`."""
    return JSONResponse({"renditions": [_row(row) for row in _rows(site, request)]})


def streams_csv(site: Site, request: Request) -> Response:
    """Answer `/api/streams.csv?q=&state=`."""
    rows = [_row(row) for row in _rows(site, request)]
    names = list(rows[0]) if rows else ["stream_id", "rendition"]
    return csv_of("fleet", names, ([row[name] for name in names] for row in rows))


def _rows(site: Site, request: Request) -> Sequence[Row]:
    words, state = request.query_params.get("q", ""), request.query_params.get("state") or None
    return [row for row in site.standing.rows() if matches(row, words=words, state=state)]


def _row(row: Row) -> dict[str, Any]:
    return {
        "stream_id": row.stream_id,
        "rendition": row.rendition,
        "state": row.state,
        "why": row.why,
        "score": row.score,
        "reason": row.reason,
        "unscored_share": round(row.unscored_share, 4),
        "last_at": iso(row.last_at),
        "last_event_id": row.last_url.rsplit("/", 1)[-1],
        "open_alerts": row.open_alerts,
    }


def points(site: Site, request: Request) -> Response:
    """Answer `/api/streams/{stream_id}/points`: what the chart draws."""
    it = asked_of(site, request)
    chart = chart_of(it.stream_id, it.lines, it.buckets, it.alerts, it.scorer, it.range)
    markers = [{"at": marker.at.timestamp(), "name": marker.name} for marker in it.markers]
    return JSONResponse({**chart, "bands": bands_of(it.watches, it.scorer), "markers": markers})


def points_csv(site: Site, request: Request) -> Response:
    """Answer `/api/streams/{stream_id}/points.csv`: every outcome of the range, nothing thinned."""
    it = asked_of(site, request, limit=MAX_CSV_POINTS)
    head = ["starts_at", "stream_id", "rendition", "event_id", "reason", *it.scorers, *SIGNALS]
    body = (
        [iso(point.starts_at), point.stream_id, point.rendition, point.event_id, point.reason]
        + [point.scores.get(scorer) for scorer in it.scorers]
        + [point.signals.get(name) for name in SIGNALS]
        for point in it.points
    )
    return csv_of(f"scores-{it.stream_id}", head, body)


# ---- segments


def segment(site: Site, request: Request) -> Response:
    """Answer `/api/segments/{event_id}`: the numbers of its frames."""
    it = outcome_asked(site, request)
    rendition = it.segment.rendition
    known: dict[str, object] = {
        "event_id": it.id,
        "stream_id": rendition.stream_id,
        "rendition": rendition.name,
        "sequence": it.segment.sequence,
        "starts_at": iso(it.segment.starts_at),
        "observed_at": iso(it.observed_at),
    }
    if isinstance(it, QualityEvent):
        scores = {score.scorer: {"value": score.value, "p5": score.p5, "min": score.min} for score in it.scores}
        return JSONResponse(known | {"scores": scores, "frames": list(_frames(it))})
    return JSONResponse(known | {"stage": it.stage, "reason": it.reason, "detail": it.detail})


def segment_csv(site: Site, request: Request) -> Response:
    """Answer `/api/segments/{event_id}.csv`: a line per frame."""
    it = outcome_asked(site, request)
    frames = list(_frames(it))
    names = list(frames[0]) if frames else ["time_seconds"]
    return csv_of(f"segment-{it.segment.sequence}", names, ([frame[name] for name in names] for frame in frames))


def _frames(it: Outcome) -> Iterable[dict[str, float]]:
    if not isinstance(it, QualityEvent):
        return
    for number, time in enumerate(it.times_seconds):
        values = {score.scorer: score.frame_values[number] for score in it.scores if number < len(score.frame_values)}
        signals = {name: summary.frame_values[number] for name, summary in it.signals.items()}
        yield {"time_seconds": time, **values, **signals}


# ---- alerts


def alerts(site: Site, request: Request) -> Response:
    """Answer `/api/alerts`."""
    return JSONResponse({"alerts": [_alert(it) for it in _alerts_asked(site, request)]})


def alerts_csv(site: Site, request: Request) -> Response:
    """Answer `/api/alerts.csv`."""
    marks = [_alert(it) for it in _alerts_asked(site, request)]
    names = list(marks[0]) if marks else ["id"]
    return csv_of("alerts", names, ([mark[name] for name in names] for mark in marks))


def _alerts_asked(site: Site, request: Request) -> Sequence[Alert]:
    return site.history.alerts(stream_id=request.query_params.get("stream") or None, limit=MAX_ALERTS)


def _alert(it: Alert) -> Mapping[str, object]:
    moments = {name: getattr(it, name) and iso(getattr(it, name)) for name in ("began_at", "opened_at", "resolved_at")}
    change = it.change
    return {
        **mark_of(it),
        **moments,
        "reading": it.evidence.reading,
        "event_id": it.evidence.event_id,
        "cause": it.cause,
        "muted_by": it.muted_by,
        "changed_at": iso(change.at) if change else None,
        "change": round(change.after - change.before, 4) if change else None,
        "change_low": change.low if change else None,
        "change_high": change.high if change else None,
        "moved": "; ".join(f"{one.name} {one.before:g} to {one.after:g}" for one in it.moved),
    }


# ---- pictures


def thumbnail(site: Site, request: Request) -> Response:
    """Answer `/segments/{event_id}/frames/{number}.jpg`."""
    it = outcome_asked(site, request)
    return _picture(site.history.thumbnails(it.id), request.path_params["number"])


def evidence(site: Site, request: Request) -> Response:
    """Answer `/alerts/{alert_id}/frames/{number}.jpg`."""
    it = alert_asked(site, request)
    return _picture(site.history.evidence(it.id), request.path_params["number"])


def _picture(pictures: Sequence[bytes], number: int) -> Response:
    if number >= len(pictures) or not pictures[number].startswith(b"\xff\xd8\xff"):
        raise HTTPException(404, "This picture is not kept any more.")
    return Response(pictures[number], media_type="image/jpeg", headers={"Cache-Control": FOREVER})


# ---- CSV


def csv_of(name: str, head: Sequence[str], body: Iterable[Cells]) -> Response:
    """A file to download; a text that a spreadsheet would run as a formula gets an apostrophe before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows([_harmless(cell) for cell in cells] for cells in body)
    plain = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_.") else "-" for sign in name)
    headers = {"Content-Disposition": f'attachment; filename="vqmon-{plain}.csv"'}
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


Line = Mapping[str, Any]


def table(site: Site, request: Request) -> Response:
    """Answer `/api/experiments/{name}/{kind}.csv?arm=&scorer=`; raises 404."""
    it = experiment_asked(site, request)
    kind = request.path_params["kind"]
    comparison = site.answers.answer(it.name).comparison
    told = chosen(comparison, request.query_params.get("arm")) if comparison else None
    if comparison is None or told is None:
        raise HTTPException(404, "There is no answer of this experiment yet; its page says more.")
    if kind not in TABLES:
        raise HTTPException(404, f"There is no such table; known are {', '.join(TABLES)}.")
    lines = TABLES[kind](comparison, told, effect_asked(told, request.query_params.get("scorer")))
    names = list(lines[0]) if lines else ["nothing"]
    return csv_of(f"{it.name}-{kind}", names, ([_cell(line[name]) for name in names] for line in lines))


def _cell(value: Any) -> Any:
    return iso(value) if isinstance(value, datetime) else value


def _plain(items: Sequence[Any]) -> list[Line]:
    return [asdict(it) for it in items]


def _arms(comparison: Comparison, told: ArmResult, effect: Effect | None) -> list[Line]:
    return [_arm(it, effect.scorer if effect else "") for it in comparison.arms]


def _arm(it: ArmSummary, scorer: str) -> Line:
    counts = it.histogram.get(scorer, [0] * HISTOGRAM_BINS)
    width = 100 // HISTOGRAM_BINS
    return {
        "arm": it.arm,
        "role": it.role,
        "scorer": scorer,
        "mean": it.mean.get(scorer),
        "scored": it.scored,
        "unscored": it.unscored,
        "clusters": it.clusters,
        "bitrate_kbps": it.bitrate_kbps,
        "gpu_seconds_per_second": it.gpu_seconds_per_second,
        "points_per_mbps": it.points_per_mbps,
        "points_per_gpu_second": it.points_per_gpu_second,
        **{f"from_{number * width}": count for number, count in enumerate(counts)},
    }


TABLES: dict[str, Callable[[Comparison, ArmResult, Effect | None], list[Line]]] = {
    "interval": lambda _, told, effect: _plain(effect.over_time if effect else ()),
    "clusters": lambda _, told, effect: _plain(effect.by_cluster if effect else ()),
    "slices": lambda _, told, effect: _plain(effect.slices if effect else ()),
    "arms": _arms,
    "guardrails": lambda _, told, effect: _plain(told.guardrails),
    "pairs": lambda _, told, effect: [{**asdict(it), "difference": it.difference} for it in told.pairs],
    "missing": lambda _, told, effect: _plain(told.missing),
    "checks": lambda comparison, told, effect: _plain([*comparison.checks, *told.checks]),
}
"""Name in the address -> the lines of the table."""
