"""One scorer's or one guardrail's numbers: every interval and test of a sample, and at which level it is read."""

import math
from collections.abc import Mapping
from typing import Any

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


def significance_levels(experiment: Experiment, samples: Estimates) -> Mapping[ArmAndScorer, float]:
    """The level at which each arm and scorer is read, so that all hold together; what has no reading counts too."""
    rho = mixture_rho(alpha=experiment.alpha, planned_clusters=experiment.planned_clusters)
    p_values = []
    for sample in samples.values():
        if sample is None or not has_enough_clusters(experiment, sample):
            p_values.append(1.0)
        else:
            p_values.append(t_test_p(sample) if experiment.is_fixed_horizon else min(1.0, 1 / e_value(sample, rho=rho)))
    return dict(zip(samples, holm_significance_levels(p_values, alpha=experiment.alpha), strict=True))


def has_enough_clusters(experiment: Experiment, sample: MeanDifference) -> bool:
    """Whether there are enough clusters for a reading."""
    return sample.n >= (experiment.planned_clusters if experiment.is_fixed_horizon else MIN_SEQUENTIAL_CLUSTERS)


def estimate_effect(
    experiment: Experiment,
    readings: Contrast,
    course: EffectTrajectory,
    *,
    which: ArmAndScorer,
    name: str,
    alpha: float,
    rng: np.random.Generator,
) -> Effect:
    """Everything about one scorer of one arm, at the level `alpha`."""
    key = f"score:{which[1]}"
    plain, adjusted = readings.sample(key), readings.adjusted(key)
    used = adjusted[0] if adjusted else plain
    if plain is None or used is None:
        table = readings.by_cluster(key)
        return Effect(scorer=name, clusters=len(table), segments=readings.segments(key), by_cluster=table)
    anytime = anytime_valid_interval(used, rho=course.rho, alpha=alpha) if used.n >= MIN_SEQUENTIAL_CLUSTERS else None
    final = t_interval(used, alpha=alpha)
    weighted = readings.weighted(key)
    reading = (final if experiment.is_fixed_horizon else anytime) if has_enough_clusters(experiment, used) else None
    most = course.max_e_values.get(which)
    return Effect(
        scorer=name,
        clusters=used.n,
        segments=readings.segments(key),
        reading=reading,
        corrected=None if reading is None else skewness_corrected_interval(used, reading),
        anytime=anytime,
        final=final,
        weighted=None if weighted is None else t_interval(weighted, alpha=alpha),
        adjusted=_adjusted(experiment, adjusted, course.rho, alpha),
        variance_saved=None if adjusted is None else adjusted[1],
        e_value=e_value(used, rho=course.rho) if used.n >= MIN_SEQUENTIAL_CLUSTERS else None,
        p_anytime=None if most is None else min(1.0, 1 / most),
        p_t=t_test_p(used),
        over_time=tuple(course.points(which, alpha=alpha)),
        by_cluster=readings.by_cluster(key),
        slices=readings.slices() if which[1] == experiment.scorers[0] else (),
        **_robust(readings.differences(key), alpha, rng),
    )


def _adjusted(
    experiment: Experiment, found: tuple[MeanDifference, float] | None, rho: float, alpha: float
) -> ConfidenceInterval | None:
    if found is None:
        return None
    if experiment.is_fixed_horizon or found[0].n < MIN_SEQUENTIAL_CLUSTERS:
        return t_interval(found[0], alpha=alpha)
    return anytime_valid_interval(found[0], rho=rho, alpha=alpha)


def _robust(differences: Floats | None, alpha: float, rng: np.random.Generator) -> dict[str, Any]:
    """What needs the clusters themselves: only of pairs."""
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


def evaluate_guardrail(experiment: Experiment, rail: Guardrail, sample: MeanDifference | None) -> GuardrailResult:
    """Non-inferiority at the unadjusted alpha: a guardrail that is tested more strictly would guard less."""
    state, bound = "open", None
    sign = 1 if rail.worse == "higher" else -1
    if sample is not None and has_enough_clusters(experiment, sample):
        rho = mixture_rho(alpha=2 * experiment.alpha, planned_clusters=experiment.planned_clusters)
        width = (
            one_sided_t_width(sample, alpha=experiment.alpha)
            if experiment.is_fixed_horizon
            else one_sided_sequence_width(sample.sd, sample.n, rho=rho, alpha=experiment.alpha)
        )
        worst = sign * sample.mean + width
        bound = sign * worst
        is_broken = sign * sample.mean - width > 0 and sign * sample.mean >= rail.margin
        state = "held" if worst < rail.margin else "broken" if is_broken else "open"
    there = sample is not None and math.isfinite(sample.mean)
    return GuardrailResult(
        name=rail.name,
        of=rail.of,
        margin=rail.margin,
        worse=rail.worse,
        state=state,  # type: ignore[arg-type]
        control_mean=sample.control_mean if sample and there else None,
        arm_mean=sample.arm_mean if sample and there else None,
        difference=sample.mean if sample and there else None,
        bound=bound,
    )
