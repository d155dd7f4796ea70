"""Effects and guardrails: every interval and test of one arm and metric, at the significance level that applies."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np

from vqmon.core.experiments.analysis.intervals import bounded_loss_bound, conservative_interval, decisive_interval
from vqmon.core.experiments.analysis.trajectory import ArmAndScorer, EffectTrajectory, Estimates
from vqmon.core.experiments.data.contrasts import Contrast
from vqmon.core.experiments.data.metrics import main_metric
from vqmon.core.experiments.definition import MIN_SEQUENTIAL_CLUSTERS, Experiment, Guardrail
from vqmon.core.experiments.results import ConfidenceInterval, Effect, GuardrailResult
from vqmon.core.experiments.stats.bounded_loss import GUARDRAIL_LARGEST_LOSS
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
    is_large_enough,
    mixture_rho,
    one_sided_sequence_width,
    one_sided_t_width,
    skewness_corrected_width,
    t_interval,
    t_test_p,
)

_END_TOLERANCE = timedelta(minutes=1)
"""The last segments of a period may end this long before it."""


def clusters_needed(experiment: Experiment, *, ends_at: datetime | None) -> float:
    """The clusters that an interval needs before it may decide a verdict.

    An experiment that is analysed once has no interval before it is complete, which needs `segments_per_cluster`, or
    data up to `until`; `ends_at` is the end of the data. Its result would otherwise be read while it still changes.
    """
    if not experiment.is_fixed_horizon:
        return MIN_SEQUENTIAL_CLUSTERS
    is_over = experiment.until is not None and ends_at is not None and ends_at >= experiment.until - _END_TOLERANCE
    is_complete = is_over or (experiment.segments_per_cluster > 0 and experiment.design == "paired")
    return experiment.planned_clusters if is_complete else math.inf


def significance_levels(
    experiment: Experiment,
    estimates: Estimates,
    *,
    needed: float = MIN_SEQUENTIAL_CLUSTERS,
    max_e_values: Mapping[ArmAndScorer, float] | None = None,
) -> Mapping[ArmAndScorer, float]:
    """The alpha of each arm and scorer so that all hold together (Holm), at all looks.

    A hypothesis with fewer clusters than `needed` is counted too, with p = 1. `max_e_values` are the largest e-values
    at any earlier look.
    """
    rho = mixture_rho(alpha=experiment.alpha, planned_clusters=experiment.planned_clusters)
    p_values = []
    for hypothesis, estimate in estimates.items():
        if estimate is None or estimate.is_constant or not is_large_enough(estimate, needed):
            p_values.append(1.0)
        elif experiment.is_fixed_horizon:
            p_values.append(t_test_p(estimate))
        else:
            largest = max((max_e_values or {}).get(hypothesis, 0.0), e_value(estimate, rho=rho))
            p_values.append(min(1.0, 1 / largest))
    return dict(zip(estimates, holm_significance_levels(p_values, alpha=experiment.alpha), strict=True))


def estimate_effect(
    experiment: Experiment,
    contrast: Contrast,
    trajectory: EffectTrajectory,
    *,
    hypothesis: ArmAndScorer,
    scorer_name: str,
    alpha: float,
    needed: float,
    rng: np.random.Generator,
) -> Effect:
    """The effect of one arm by one scorer at level 1 - alpha.

    Without `needed` clusters there is no interval that decides. `rng` draws the bootstrap.
    """
    _, scorer = hypothesis
    key = main_metric(scorer)
    plain, adjusted = contrast.difference(key), contrast.adjusted_difference(key)
    primary = adjusted[0] if adjusted else plain
    if plain is None or primary is None:
        rows = contrast.forest_rows(key)
        return Effect(scorer=scorer_name, clusters=len(rows), segments=contrast.segment_count(key), by_cluster=rows)
    primary = trajectory.with_information(hypothesis, primary)
    is_sequential = not primary.is_constant and is_large_enough(primary, MIN_SEQUENTIAL_CLUSTERS)
    anytime = anytime_valid_interval(primary, rho=trajectory.rho, alpha=alpha) if is_sequential else None
    decisive, corrected = _deciding_intervals(
        experiment, trajectory, primary, hypothesis=hypothesis, alpha=alpha, needed=needed
    )
    return Effect(
        scorer=scorer_name,
        clusters=primary.n,
        segments=contrast.segment_count(key),
        reading=decisive,
        corrected=corrected,
        effective_clusters=primary.effective_n,
        smaller_arm=primary.smaller_arm,
        anytime=anytime,
        e_value=e_value(primary, rho=trajectory.rho) if is_sequential else None,
        p_anytime=trajectory.p_value(hypothesis),
        over_time=tuple(trajectory.points(hypothesis, alpha=alpha)),
        by_cluster=contrast.forest_rows(key),
        slices=contrast.slice_differences() if scorer == experiment.scorers[0] else (),
        **(
            {} if primary.is_constant else _fields_of_one_look(experiment, contrast, key, primary, adjusted, alpha, rng)
        ),
    )


def _fields_of_one_look(
    experiment: Experiment,
    contrast: Contrast,
    key: str,
    primary: MeanDifference,
    adjusted: tuple[MeanDifference, float] | None,
    alpha: float,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """The fields of an Effect that hold at one look, by other weights and by other tests; all need a variance."""
    rho = mixture_rho(alpha=experiment.alpha, planned_clusters=experiment.planned_clusters)
    return {
        "final": t_interval(primary, alpha=alpha),
        "p_t": t_test_p(primary),
        **_sensitivity_fields(experiment, contrast.segment_weighted_difference(key), adjusted, rho, alpha=alpha),
        **_robustness_fields(contrast.cluster_differences(key), alpha, rng),
    }


def _deciding_intervals(
    experiment: Experiment,
    trajectory: EffectTrajectory,
    primary: MeanDifference,
    *,
    hypothesis: ArmAndScorer,
    alpha: float,
    needed: float,
) -> tuple[ConfidenceInterval | None, ConfidenceInterval | None]:
    """The interval that decides, and the one that also allows for skewness and rare losses; None before its time."""
    if primary.is_constant or not is_large_enough(primary, needed):
        return None, None
    interval = decisive_interval(experiment, primary, rho=trajectory.rho, alpha=alpha)
    if experiment.is_fixed_horizon:
        return interval, conservative_interval(experiment, primary, interval)
    return trajectory.common_intervals(hypothesis, interval)


def evaluate_guardrail(
    experiment: Experiment,
    guardrail: Guardrail,
    estimate: MeanDifference | None,
    *,
    needed: float = MIN_SEQUENTIAL_CLUSTERS,
) -> GuardrailResult:
    """A one-sided non-inferiority test at the whole alpha: a stricter level would protect less.

    With fewer than `needed` clusters it is open.
    """
    state: Literal["held", "broken", "open"] = "open"
    bound = None
    # Positive differences are worse after multiplication with this sign.
    sign = 1 if guardrail.worse == "higher" else -1
    if estimate is not None and is_large_enough(estimate, needed):
        worst, best = (sign * bound for bound in _guardrail_bounds(experiment, guardrail, estimate, sign=sign))
        bound = sign * worst
        if worst < guardrail.margin:
            state = "held"
        elif best > 0 and sign * estimate.mean >= guardrail.margin:
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


def _guardrail_bounds(
    experiment: Experiment, guardrail: Guardrail, estimate: MeanDifference, *, sign: int
) -> tuple[float, float]:
    """The one-sided bounds of the difference on its worse and on its better side.

    The worse one is corrected for skewness and, in a sequence, for rare clusters that are worse by up to
    GUARDRAIL_LARGEST_LOSS margins, or as much worse as any seen.
    """
    mean, alpha = estimate.mean, experiment.alpha
    if experiment.is_fixed_horizon:
        width = one_sided_t_width(estimate, alpha=alpha)
    else:
        rho = mixture_rho(alpha=2 * alpha, planned_clusters=experiment.planned_clusters)
        width = one_sided_sequence_width(estimate.sequence_sd, estimate.sequence_n, rho=rho, alpha=alpha)
    corrected = mean - skewness_corrected_width(estimate, -sign * width)
    worst = sign * max(sign * corrected, sign * mean + width)
    if estimate.values is not None and not experiment.is_fixed_horizon:
        seen = float((sign * (estimate.values - mean)).max())
        largest_loss = max(GUARDRAIL_LARGEST_LOSS * guardrail.margin, seen)
        worst = bounded_loss_bound(estimate, worst, largest_loss=largest_loss, alpha=alpha, sign=-sign)
    return worst, mean - sign * width


def _sensitivity_fields(
    experiment: Experiment,
    weighted: MeanDifference | None,
    adjusted: tuple[MeanDifference, float] | None,
    rho: float,
    *,
    alpha: float,
) -> dict[str, Any]:
    """The fields of an Effect by other weights and with covariates."""
    return {
        "weighted": None if weighted is None else t_interval(weighted, alpha=alpha),
        "adjusted": None if adjusted is None else _adjusted_interval(experiment, adjusted[0], rho, alpha=alpha),
        "variance_saved": None if adjusted is None else adjusted[1],
    }


def _adjusted_interval(
    experiment: Experiment, adjusted: MeanDifference, rho: float, *, alpha: float
) -> ConfidenceInterval:
    if experiment.is_fixed_horizon or not is_large_enough(adjusted, MIN_SEQUENTIAL_CLUSTERS):
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
