"""The page that lists experiments with their verdicts, and the page of one experiment with everything behind it."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from vqmon.core.experiments.definition import Experiment
from vqmon.core.experiments.human_review import PairExample
from vqmon.core.experiments.results import ArmResult, Comparison, Effect, HealthCheck
from vqmon.core.scores import REFERENCE_PREFIX
from vqmon.web.charts.experiments import (
    distribution_plot,
    effect_decimals,
    forest_plot,
    interval_plot,
    interval_sentence,
    scorers_with_histograms,
)
from vqmon.web.model.heat_maps import map_choices
from vqmon.web.pages.frame_pairs import frame_pairs, frame_pictures, load_side
from vqmon.web.site import Site
from vqmon.web.urls import experiment_path, frame_pair_path, unquote_stream_id, with_query

VERDICT_CLASSES = {
    "better": "good",
    "worse": "failing",
    "not worse": "good",
    "equivalent": "equal",
    "undecided": "stale",
    "needs human look": "look",
}
"""Verdict -> class of its badge."""

GUARDRAIL_CLASSES = {"held": "good", "broken": "failing", "open": "stale"}
"""State of a guardrail -> class of its badge."""

_MAX_PAIRS = 6
_MAX_MISSING = 12
_MAX_TABLE_ROWS = 100


def experiments_page(site: Site, request: Request) -> Response:
    """Answer `/experiments`."""
    results = site.experiment_results
    items = [
        {
            "experiment": experiment,
            "result": results.result(experiment.name),
            "url": experiment_path(experiment.name),
        }
        for experiment in results.experiments()
    ]
    return site.render_page(
        "experiments.html", request, items=items, problem=results.problem, verdict_classes=VERDICT_CLASSES
    )


def experiment_page(site: Site, request: Request) -> Response:
    """Answer `/experiments/{name}`."""
    experiment = requested_experiment(site, request)
    result = site.experiment_results.result(experiment.name)
    path = experiment_path(experiment.name)
    context: dict[str, Any] = {"arm_result": None, "comparison": None}
    if result.comparison:
        context |= _comparison_context(site, result.comparison, experiment, request.query_params)
    return site.render_page(
        "experiment.html",
        request,
        experiment=experiment,
        result=result,
        verdict_classes=VERDICT_CLASSES,
        api_path=f"/api{path}",
        settings=experiment_settings(experiment),
        **context,
    )


def requested_experiment(site: Site, request: Request) -> Experiment:
    """The experiment that the path names; raises 404."""
    name = unquote_stream_id(request.path_params["name"])
    for experiment in site.experiment_results.experiments():
        if experiment.name == name:
            return experiment
    raise HTTPException(
        404, "There is no experiment of that name; the setting `experiments.path` names the file that defines them."
    )


def select_arm_result(comparison: Comparison, arm: str | None) -> ArmResult | None:
    """The answer about an arm, or about the first one if there is none about that arm."""
    return comparison.result_of(arm or "") or next(iter(comparison.answers), None)


def select_effect(arm_result: ArmResult, scorer: str | None) -> Effect | None:
    """The effect measured by a scorer, or by the first one if there is none by that scorer."""
    effects = arm_result.effects
    return next((effect for effect in effects if effect.scorer == scorer), next(iter(effects), None))


def sort_checks(*groups: Sequence[HealthCheck]) -> list[HealthCheck]:
    """All checks, failed ones first, those that block a verdict before others."""
    weights = ("blocks", "look", "notes")
    checks = (check for group in groups for check in group)
    return sorted(checks, key=lambda check: (check.is_good, weights.index(check.weight)))


def _comparison_context(
    site: Site, comparison: Comparison, experiment: Experiment, query: Mapping[str, str]
) -> dict[str, object]:
    arm_result = select_arm_result(comparison, query.get("arm"))
    if arm_result is None:
        return {"comparison": comparison}
    effect = select_effect(arm_result, query.get("scorer"))
    names = {"arm": arm_result.arm, "control": arm_result.control}
    url = experiment_path(experiment.name)
    shown_arms = [arm for arm in comparison.arms if arm.arm in (*names.values(), experiment.input_arm)]
    histogram_scorers = scorers_with_histograms(shown_arms)
    if effect and effect.scorer in histogram_scorers:
        histogram_scorer = effect.scorer
    else:
        histogram_scorer = next(iter(histogram_scorers), "")
    return {
        "comparison": comparison,
        "arm_result": arm_result,
        "effect": effect,
        "decimals": effect_decimals(effect) if effect else 2,
        "scorers": [
            {
                "label": other.scorer,
                "url": with_query(url, arm=arm_result.arm, scorer=other.scorer),
                "is_current": other is effect,
            }
            for other in arm_result.effects
        ],
        "arm_urls": {other.arm: with_query(url, arm=other.arm) for other in comparison.answers},
        "interval": interval_plot(effect, experiment, **names) if effect else None,
        "interval_sentence": interval_sentence(effect, experiment, **names) if effect else "",
        "forest": forest_plot(effect) if effect else None,
        "distribution": distribution_plot(shown_arms, histogram_scorer),
        "distribution_arms": [arm.arm for arm in shown_arms],
        "checks": sort_checks(comparison.checks, arm_result.checks),
        "guardrail_classes": GUARDRAIL_CLASSES,
        "pair_groups": _pair_groups(arm_result, url),
        "worst_pair": _worst_pair_with_pictures(site, arm_result),
        "missing": arm_result.missing[:_MAX_MISSING],
        "review_url": experiment_path(experiment.name, arm_result.arm, "review"),
        "review_count": len(arm_result.pairs_with_role("review")),
        "max_table_rows": _MAX_TABLE_ROWS,
    }


def _pair_groups(arm_result: ArmResult, url: str) -> list[dict[str, object]]:
    back = with_query(url, arm=arm_result.arm)
    titles = (("worst", f"Where {arm_result.arm} loses most"), ("best", f"Where {arm_result.arm} gains most"))
    return [
        {
            "title": title,
            "pairs": [_pair_link(pair, back) for pair in arm_result.pairs if pair.role == role][:_MAX_PAIRS],
        }
        for role, title in titles
    ]


def _pair_link(pair: PairExample, back: str) -> dict[str, object]:
    path = frame_pair_path(pair.control_event_id, pair.arm_event_id)
    return {"pair": pair, "url": with_query(path, **{"from": back})}


def _worst_pair_with_pictures(site: Site, arm_result: ArmResult) -> dict[str, object] | None:
    """The worst pair of which there are pictures, with its frames and their heat maps."""
    for pair in arm_result.pairs_with_role("worst")[:_MAX_PAIRS]:
        control = site.history.outcome(pair.control_event_id)
        arm = site.history.outcome(pair.arm_event_id)
        if control is None or arm is None or not frame_pictures(site, pair.control_event_id, control):
            continue
        pair_id = f"{pair.control_event_id}:{pair.arm_event_id}"
        sides = load_side(site, control), load_side(site, arm)
        maps = map_choices([heat_map for side in sides for heat_map in side.heat_maps])
        frames = frame_pairs(pair_id, *sides, maps=maps)
        if frames:
            return {"pair": pair, "frames": frames, "maps": maps}
    return None


def _unit(experiment: Experiment) -> str:
    """The unit of differences: points of 0..100, or that of the reference measure."""
    first = experiment.scorers[0]
    return f"in the unit of {first.removeprefix(REFERENCE_PREFIX)}" if first.startswith(REFERENCE_PREFIX) else "points"


def experiment_settings(experiment: Experiment) -> list[tuple[str, str]]:
    """Label and value of the settings that were fixed before the experiment began."""
    is_block = experiment.cluster == "block"
    facts = [
        ("Design", {"paired": "paired on the same source segment"}.get(experiment.design, experiment.design)),
        ("Unit of analysis", f"blocks of {experiment.block_seconds / 60:g} min" if is_block else experiment.cluster),
        ("Planned clusters", str(experiment.planned_clusters)),
        ("False positive rate (alpha)", f"{100 * experiment.alpha:g} %"),
        ("Non-inferiority margin", f"{experiment.margin:g} {_unit(experiment)}"),
        ("Largest loss of a rare content", f"{experiment.largest_loss:g} {_unit(experiment)}"),
        ("Smallest gain of interest", f"{experiment.delta_min:g} {_unit(experiment)}"),
        ("Scorers", ", ".join(experiment.scorers)),
        ("Streams", ", ".join(experiment.streams)),
    ]
    if experiment.since or experiment.until:
        ends = [f"{at:%d %b %Y %H:%M}" if at else "…" for at in (experiment.since, experiment.until)]
        facts.append(("Time", " to ".join(ends)))
    return facts
