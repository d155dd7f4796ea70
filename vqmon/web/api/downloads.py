"""The data of the pages as files: unversioned JSON and CSV, and the JPEGs of frames."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vqmon.core.experiments.results import HISTOGRAM_BINS, ArmResult, ArmSummary, Comparison, Effect
from vqmon.core.types import SIGNALS, Alert, Outcome, QualityEvent
from vqmon.web.charts.control_charts import baseline_bands
from vqmon.web.charts.series import alert_data, chart_data
from vqmon.web.model.renditions import RenditionRow, matches_filter
from vqmon.web.pages.alerts import MAX_ALERTS, requested_alert
from vqmon.web.pages.experiments import requested_experiment, select_arm_result, select_effect
from vqmon.web.pages.frame_pairs import jpeg_response
from vqmon.web.pages.segment import requested_outcome
from vqmon.web.pages.stream import load_stream_view
from vqmon.web.site import Site, csv_response, format_iso

CACHE_FOREVER = "public, max-age=31536000, immutable"
"""`Cache-Control` of a URL whose content never changes."""

_MAX_CSV_POINTS = 200_000


# ---- streams


def renditions_json(site: Site, request: Request) -> Response:
    """Answer `/api/streams?q=&state=`."""
    return JSONResponse({"renditions": [_rendition_data(row) for row in _matching_rows(site, request)]})


def renditions_csv(site: Site, request: Request) -> Response:
    """Answer `/api/streams.csv?q=&state=`."""
    rows = [_rendition_data(row) for row in _matching_rows(site, request)]
    columns = list(rows[0]) if rows else ["stream_id", "rendition"]
    return csv_response("fleet", columns, ([row[name] for name in columns] for row in rows))


def _matching_rows(site: Site, request: Request) -> Sequence[RenditionRow]:
    search_text, state = request.query_params.get("q", ""), request.query_params.get("state") or None
    return [row for row in site.fleet.rows() if matches_filter(row, search_text=search_text, state=state)]


def _rendition_data(row: RenditionRow) -> dict[str, Any]:
    return {
        "stream_id": row.stream_id,
        "rendition": row.rendition,
        "state": row.state,
        "why": row.why,
        "score": row.score,
        "reason": row.reason,
        "unscored_share": round(row.unscored_share, 4),
        "last_at": format_iso(row.last_observed_at),
        "last_event_id": row.last_event_id,
        "open_alerts": row.open_alerts,
    }


def chart_json(site: Site, request: Request) -> Response:
    """Answer `/api/streams/{stream_id}/points`: the data that the chart of the stream's page draws."""
    view = load_stream_view(site, request)
    chart = chart_data(
        view.stream_id,
        view.points_by_rendition,
        view.buckets,
        view.alerts,
        scorer=view.scorer,
        time_range=view.range,
    )
    markers = [{"at": marker.at.timestamp(), "name": marker.name} for marker in view.markers]
    return JSONResponse({**chart, "bands": baseline_bands(view.monitored, view.scorer), "markers": markers})


def points_csv(site: Site, request: Request) -> Response:
    """Answer `/api/streams/{stream_id}/points.csv`: every outcome of the range, without downsampling."""
    view = load_stream_view(site, request, max_points=_MAX_CSV_POINTS)
    measures = list(dict.fromkeys(name for point in view.points for name in point.references))
    columns = ["starts_at", "stream_id", "rendition", "event_id", "reason", *view.scorers, *SIGNALS]
    columns += [f"reference_{name}" for name in measures]
    rows = (
        [format_iso(point.starts_at), point.stream_id, point.rendition, point.event_id, point.reason]
        + [point.scores.get(scorer) for scorer in view.scorers]
        + [point.signals.get(name) for name in SIGNALS]
        + [point.references.get(name) for name in measures]
        for point in view.points
    )
    return csv_response(f"scores-{view.stream_id}", columns, rows)


# ---- segments


def segment_json(site: Site, request: Request) -> Response:
    """Answer `/api/segments/{event_id}`: the scores and signals of its frames, or why it is unscored."""
    outcome = requested_outcome(site, request)
    rendition = outcome.segment.rendition
    common: dict[str, object] = {
        "event_id": outcome.id,
        "stream_id": rendition.stream_id,
        "rendition": rendition.name,
        "sequence": outcome.segment.sequence,
        "starts_at": format_iso(outcome.segment.starts_at),
        "observed_at": format_iso(outcome.observed_at),
    }
    if isinstance(outcome, QualityEvent):
        scores = {score.scorer: {"value": score.value, "p5": score.p5, "min": score.min} for score in outcome.scores}
        failures = [asdict(failure) for failure in outcome.scorer_failures]
        frames = list(_frames(outcome))
        return JSONResponse(common | {"scores": scores, "scorer_failures": failures, "frames": frames})
    return JSONResponse(common | {"stage": outcome.stage, "reason": outcome.reason, "detail": outcome.detail})


def segment_csv(site: Site, request: Request) -> Response:
    """Answer `/api/segments/{event_id}.csv`: a row per frame."""
    outcome = requested_outcome(site, request)
    frames = list(_frames(outcome))
    columns = list(frames[0]) if frames else ["time_seconds"]
    rows = ([frame[name] for name in columns] for frame in frames)
    return csv_response(f"segment-{outcome.segment.sequence}", columns, rows)


def _frames(outcome: Outcome) -> Iterable[dict[str, float]]:
    if not isinstance(outcome, QualityEvent):
        return
    for index, time in enumerate(outcome.times_seconds):
        scores = {
            score.scorer: score.frame_values[index] for score in outcome.scores if index < len(score.frame_values)
        }
        signals = {name: summary.frame_values[index] for name, summary in outcome.signals.items()}
        yield {"time_seconds": time, **scores, **signals}


# ---- alerts


def alerts_json(site: Site, request: Request) -> Response:
    """Answer `/api/alerts?stream=`."""
    return JSONResponse({"alerts": [_alert_row(alert) for alert in _requested_alerts(site, request)]})


def alerts_csv(site: Site, request: Request) -> Response:
    """Answer `/api/alerts.csv?stream=`."""
    rows = [_alert_row(alert) for alert in _requested_alerts(site, request)]
    columns = list(rows[0]) if rows else ["id"]
    return csv_response("alerts", columns, ([row[name] for name in columns] for row in rows))


def _requested_alerts(site: Site, request: Request) -> Sequence[Alert]:
    return site.history.alerts(stream_id=request.query_params.get("stream") or None, limit=MAX_ALERTS)


def _alert_row(alert: Alert) -> Mapping[str, object]:
    change = alert.change
    return {
        **alert_data(alert),
        "began_at": format_iso(alert.began_at),
        "opened_at": format_iso(alert.opened_at),
        "resolved_at": alert.resolved_at and format_iso(alert.resolved_at),
        "reading": alert.evidence.reading,
        "event_id": alert.evidence.event_id,
        "cause": alert.cause,
        "muted_by": alert.muted_by,
        "changed_at": format_iso(change.at) if change else None,
        "change": round(change.after - change.before, 4) if change else None,
        "change_low": change.low if change else None,
        "change_high": change.high if change else None,
        "moved": "; ".join(f"{moved.name} {moved.before:g} to {moved.after:g}" for moved in alert.moved),
    }


# ---- pictures


def thumbnail_jpeg(site: Site, request: Request) -> Response:
    """Answer `/segments/{event_id}/frames/{number}.jpg`."""
    outcome = requested_outcome(site, request)
    thumbnails = site.history.thumbnails(outcome.id)
    return jpeg_response(thumbnails, request.path_params["number"], cache_control=CACHE_FOREVER)


def evidence_jpeg(site: Site, request: Request) -> Response:
    """Answer `/alerts/{alert_id}/frames/{number}.jpg`."""
    alert = requested_alert(site, request)
    frames = site.history.evidence(alert.id)
    return jpeg_response(frames, request.path_params["number"], cache_control=CACHE_FOREVER)


# ---- experiments

_Row = Mapping[str, Any]


def experiment_table_csv(site: Site, request: Request) -> Response:
    """Answer `/api/experiments/{name}/{kind}.csv?arm=&scorer=`; raises 404."""
    experiment = requested_experiment(site, request)
    kind = request.path_params["kind"]
    comparison = site.experiment_results.result(experiment.name).comparison
    arm_result = select_arm_result(comparison, request.query_params.get("arm")) if comparison else None
    if comparison is None or arm_result is None:
        raise HTTPException(404, "There is no result of this experiment yet; its page says why.")
    if kind not in EXPERIMENT_TABLES:
        raise HTTPException(404, f"There is no such table; the tables are {', '.join(EXPERIMENT_TABLES)}.")
    effect = select_effect(arm_result, request.query_params.get("scorer"))
    rows = EXPERIMENT_TABLES[kind](comparison, arm_result, effect)
    columns = list(rows[0]) if rows else ["nothing"]
    return csv_response(f"{experiment.name}-{kind}", columns, ([_cell(row[name]) for name in columns] for row in rows))


def _cell(value: Any) -> Any:
    return format_iso(value) if isinstance(value, datetime) else value


def _rows(items: Sequence[Any]) -> list[_Row]:
    return [asdict(item) for item in items]


def _arm_rows(comparison: Comparison, arm_result: ArmResult, effect: Effect | None) -> list[_Row]:
    return [_arm_row(arm, effect.scorer if effect else "") for arm in comparison.arms]


def _arm_row(arm: ArmSummary, scorer: str) -> _Row:
    counts = arm.histogram.get(scorer, [0] * HISTOGRAM_BINS)
    bin_width = 100 // HISTOGRAM_BINS
    return {
        "arm": arm.arm,
        "role": arm.role,
        "scorer": scorer,
        "mean": arm.mean.get(scorer),
        "scored": arm.scored,
        "unscored": arm.unscored,
        "clusters": arm.clusters,
        "bitrate_kbps": arm.bitrate_kbps,
        "gpu_seconds_per_second": arm.gpu_seconds_per_second,
        "points_per_mbps": arm.points_per_mbps,
        "points_per_gpu_second": arm.points_per_gpu_second,
        **{f"from_{index * bin_width}": count for index, count in enumerate(counts)},
    }


EXPERIMENT_TABLES: dict[str, Callable[[Comparison, ArmResult, Effect | None], list[_Row]]] = {
    "interval": lambda _, arm_result, effect: _rows(effect.over_time if effect else ()),
    "clusters": lambda _, arm_result, effect: _rows(effect.by_cluster if effect else ()),
    "slices": lambda _, arm_result, effect: _rows(effect.slices if effect else ()),
    "arms": _arm_rows,
    "guardrails": lambda _, arm_result, effect: _rows(arm_result.guardrails),
    "pairs": lambda _, arm_result, effect: [
        {**asdict(pair), "difference": pair.difference} for pair in arm_result.pairs
    ],
    "missing": lambda _, arm_result, effect: _rows(arm_result.missing),
    "checks": lambda comparison, arm_result, effect: _rows([*comparison.checks, *arm_result.checks]),
}
"""Name of the table in the URL -> its rows."""
