"""Effects and guardrails: every interval and test of one arm and metric, at the significance level that applies."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from vqmon.core.experiments.analysis.trajectory import ArmAndScorer, EffectTrajectory, Estimates
from vqmon.core.experiments.data.contrasts import Contrast
from vqmon.core.experiments.definition import MIN_SEQUENTIAL_CLUSTERS, Experiment, Guardrail
from vqmon.core.experiments.results import ConfidenceInterval, Effect, GuardrailResult
from vqmon.core.experiments.stats.nonparametric import (
    MAX_SIGN_FLIP_CLUSTERS,
    Floats,
    bca_bootstrap_interval,
    holm_significance_levels,
    sign_flip_test_p,
    wilcoxon_signed_rank_p,
    win_rate,
)
from vqmon.core.experiments.stats.sequential import (
    MeanDifference,
    anytime_valid_interval,
    e_value,
    mixture_rho,
    one_sided_sequence_width,
    one_sided_t_width,
    skewness_corrected_interval,
    t_interval,
    t_test_p,
)


def significance_levels(experiment: Experiment, estimates: Estimates) -> Mapping[ArmAndScorer, float]:
    """The alpha of each arm and scorer so that all hold together (Holm).

    A hypothesis with too few clusters is counted too, with p = 1.
    """
    rho = mixture_rho(alpha=experiment.alpha, planned_clusters=experiment.planned_clusters)
    p_values = []
    for estimate in estimates.values():
        if estimate is None or not _has_enough_clusters(experiment, estimate):
            p_values.append(1.0)
        elif experiment.is_fixed_horizon:
            p_values.append(t_test_p(estimate))
        else:
            p_values.append(min(1.0, 1 / e_value(estimate, rho=rho)))
    return dict(zip(estimates, holm_significance_levels(p_values, alpha=experiment.alpha), strict=True))


def _has_enough_clusters(experiment: Experiment, estimate: MeanDifference) -> bool:
    """Whether the interval of the estimate may decide a verdict."""
    needed = experiment.planned_clusters if experiment.is_fixed_horizon else MIN_SEQUENTIAL_CLUSTERS
    return estimate.n >= needed


def estimate_effect(
    experiment: Experiment,
    contrast: Contrast,
    trajectory: EffectTrajectory,
    *,
    hypothesis: ArmAndScorer,
    scorer_name: str,
    alpha: float,
    rng: np.random.Generator,
) -> Effect:
    """The effect of one arm by one scorer at level 1 - alpha; `rng` draws the bootstrap."""
    _, scorer = hypothesis
    key = f"score:{scorer}"
    plain, adjusted = contrast.difference(key), contrast.adjusted_difference(key)
    primary = adjusted[0] if adjusted else plain
    if plain is None or primary is None:
        rows = contrast.forest_rows(key)
        return Effect(scorer=scorer_name, clusters=len(rows), segments=contrast.segment_count(key), by_cluster=rows)
    is_sequential = primary.n >= MIN_SEQUENTIAL_CLUSTERS
    anytime = anytime_valid_interval(primary, rho=trajectory.rho, alpha=alpha) if is_sequential else None
    final = t_interval(primary, alpha=alpha)
    weighted = contrast.segment_weighted_difference(key)
    decisive = None
    if _has_enough_clusters(experiment, primary):
        decisive = final if experiment.is_fixed_horizon else anytime
    max_e_value = trajectory.max_e_values.get(hypothesis)
    return Effect(
        scorer=scorer_name,
        clusters=primary.n,
        segments=contrast.segment_count(key),
        reading=decisive,
        corrected=None if decisive is None else skewness_corrected_interval(primary, decisive),
        anytime=anytime,
        final=final,
        weighted=None if weighted is None else t_interval(weighted, alpha=alpha),
        adjusted=None if adjusted is None else _adjusted_interval(experiment, adjusted[0], trajectory.rho, alpha=alpha),
        variance_saved=None if adjusted is None else adjusted[1],
        e_value=e_value(primary, rho=trajectory.rho) if is_sequential else None,
        p_anytime=None if max_e_value is None else min(1.0, 1 / max_e_value),
        p_t=t_test_p(primary),
        over_time=tuple(trajectory.points(hypothesis, alpha=alpha)),
        by_cluster=contrast.forest_rows(key),
        slices=contrast.slice_differences() if scorer == experiment.scorers[0] else (),
        **_robustness_fields(contrast.cluster_differences(key), alpha, rng),
    )


def evaluate_guardrail(
    experiment: Experiment, guardrail: Guardrail, estimate: MeanDifference | None
) -> GuardrailResult:
    """A one-sided non-inferiority test at the whole alpha: a stricter level would protect less."""
    state: Literal["held", "broken", "open"] = "open"
    bound = None
    # Positive differences are worse after multiplication with this sign.
    sign = 1 if guardrail.worse == "higher" else -1
    if estimate is not None and _has_enough_clusters(experiment, estimate):
        width = _one_sided_width(experiment, estimate)
        worst = sign * estimate.mean + width
        bound = sign * worst
        is_significantly_worse = sign * estimate.mean - width > 0
        if worst < guardrail.margin:
            state = "held"
        elif is_significantly_worse and sign * estimate.mean >= guardrail.margin:
            state = "broken"
    measured = estimate if estimate is not None and math.isfinite(estimate.mean) else None
    return GuardrailResult(
        name=guardrail.name,
        of=guardrail.of,
        margin=guardrail.margin,
        worse=guardrail.worse,
        state=state,
        control_mean=None if measured is None else measured.control_mean,
        arm_mean=None if measured is None else measured.arm_mean,
        difference=None if measured is None else measured.mean,
        bound=bound,
    )


def _one_sided_width(experiment: Experiment, estimate: MeanDifference) -> float:
    if experiment.is_fixed_horizon:
        return one_sided_t_width(estimate, alpha=experiment.alpha)
    rho = mixture_rho(alpha=2 * experiment.alpha, planned_clusters=experiment.planned_clusters)
    return one_sided_sequence_width(estimate.sd, estimate.n, rho=rho, alpha=experiment.alpha)


def _adjusted_interval(
    experiment: Experiment, adjusted: MeanDifference, rho: float, *, alpha: float
) -> ConfidenceInterval:
    if experiment.is_fixed_horizon or adjusted.n < MIN_SEQUENTIAL_CLUSTERS:
        return t_interval(adjusted, alpha=alpha)
    return anytime_valid_interval(adjusted, rho=rho, alpha=alpha)


def _robustness_fields(differences: Floats | None, alpha: float, rng: np.random.Generator) -> dict[str, Any]:
    """The fields of an Effect that need the difference of every cluster, which only pairs have."""
    if differences is None or len(differences) < 2:
        return {}
    rate, low, high = win_rate(differences)
    return {
        "p_sign_flip": sign_flip_test_p(differences) if len(differences) <= MAX_SIGN_FLIP_CLUSTERS else None,
        "p_wilcoxon": wilcoxon_signed_rank_p(differences),
        "win_rate": rate,
        "win_low": low,
        "win_high": high,
        "bootstrap": bca_bootstrap_interval(differences, alpha=alpha, rng=rng),
    }
