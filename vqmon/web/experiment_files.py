"""What the page of an experiment shows, as CSV: one file per table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.experiments.results import HISTOGRAM_BINS, ArmAnswer, ArmSummary, Comparison, Effect
from vqmon.web.api.downloads import csv_of
from vqmon.web.pages.experiments import chosen, effect_asked, experiment_asked
from vqmon.web.site import Site, iso

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


def _arms(comparison: Comparison, told: ArmAnswer, effect: Effect | None) -> list[Line]:
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


TABLES: dict[str, Callable[[Comparison, ArmAnswer, Effect | None], list[Line]]] = {
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
