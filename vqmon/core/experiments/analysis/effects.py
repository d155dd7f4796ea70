"""One scorer's or one guardrail's numbers: every interval and test of a sample, and at which level it is read."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vqmon.core.experiments.analysis.trajectory import Course, Samples, Which
from vqmon.core.experiments.data.contrasts import Readings
from vqmon.core.experiments.definition import FIRST_LOOK, Experiment, Guardrail
from vqmon.core.experiments.results import Effect, GuardrailAnswer, Interval
from vqmon.core.experiments.stats.nonparametric import (
    SIGN_FLIP_MOST,
    Floats,
    bootstrap_interval,
    holm_levels,
    sign_flip_p,
    wilcoxon_p,
    win_rate,
)
from vqmon.core.experiments.stats.sequential import (
    Sample,
    anytime_interval,
    e_value,
    final_bound,
    final_interval,
    final_p,
    mixture_rho,
    one_sided_width,
    without_skew,
)


def levels_of(experiment: Experiment, samples: Samples) -> Mapping[Which, float]:
    """The level at which each arm and scorer is read, so that all hold together; what has no reading counts too."""
    rho = mixture_rho(alpha=experiment.alpha, planned=experiment.planned_clusters)
    p_values = []
    for sample in samples.values():
        if sample is None or not is_readable(experiment, sample):
            p_values.append(1.0)
        else:
            p_values.append(final_p(sample) if experiment.is_read_once else min(1.0, 1 / e_value(sample, rho=rho)))
    return dict(zip(samples, holm_levels(p_values, alpha=experiment.alpha), strict=True))


def is_readable(experiment: Experiment, sample: Sample) -> bool:
    """Whether there are enough clusters for a reading."""
    return sample.n >= (experiment.planned_clusters if experiment.is_read_once else FIRST_LOOK)


def effect_of(
    experiment: Experiment,
    readings: Readings,
    course: Course,
    *,
    which: Which,
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
    anytime = anytime_interval(used, rho=course.rho, alpha=alpha) if used.n >= FIRST_LOOK else None
    final = final_interval(used, alpha=alpha)
    weighted = readings.weighted(key)
    reading = (final if experiment.is_read_once else anytime) if is_readable(experiment, used) else None
    most = course.most.get(which)
    return Effect(
        scorer=name,
        clusters=used.n,
        segments=readings.segments(key),
        reading=reading,
        corrected=None if reading is None else without_skew(used, reading),
        anytime=anytime,
        final=final,
        weighted=None if weighted is None else final_interval(weighted, alpha=alpha),
        adjusted=_adjusted(experiment, adjusted, course.rho, alpha),
        variance_saved=None if adjusted is None else adjusted[1],
        e_value=e_value(used, rho=course.rho) if used.n >= FIRST_LOOK else None,
        p_anytime=None if most is None else min(1.0, 1 / most),
        p_t=final_p(used),
        over_time=tuple(course.points(which, alpha=alpha)),
        by_cluster=readings.by_cluster(key),
        slices=readings.slices() if which[1] == experiment.scorers[0] else (),
        **_robust(readings.differences(key), alpha, rng),
    )


def _adjusted(experiment: Experiment, found: tuple[Sample, float] | None, rho: float, alpha: float) -> Interval | None:
    if found is None:
        return None
    if experiment.is_read_once or found[0].n < FIRST_LOOK:
        return final_interval(found[0], alpha=alpha)
    return anytime_interval(found[0], rho=rho, alpha=alpha)


def _robust(differences: Floats | None, alpha: float, rng: np.random.Generator) -> dict[str, Any]:
    """What needs the clusters themselves: only of pairs."""
    if differences is None or len(differences) < 2:
        return {}
    rate, low, high = win_rate(differences)
    return {
        "p_sign_flip": sign_flip_p(differences) if len(differences) <= SIGN_FLIP_MOST else None,
        "p_wilcoxon": wilcoxon_p(differences),
        "win_rate": rate,
        "win_low": low,
        "win_high": high,
        "bootstrap": bootstrap_interval(differences, alpha=alpha, rng=rng),
    }


def guardrail_answer(experiment: Experiment, rail: Guardrail, sample: Sample | None) -> GuardrailAnswer:
    """Non-inferiority at the unadjusted alpha: a guardrail that is tested more strictly would guard less."""
    state, bound = "open", None
    sign = 1 if rail.worse == "higher" else -1
    if sample is not None and is_readable(experiment, sample):
        rho = mixture_rho(alpha=2 * experiment.alpha, planned=experiment.planned_clusters)
        width = (
            final_bound(sample, alpha=experiment.alpha)
            if experiment.is_read_once
            else one_sided_width(sample.sd, sample.n, rho=rho, alpha=experiment.alpha)
        )
        worst = sign * sample.mean + width
        bound = sign * worst
        is_broken = sign * sample.mean - width > 0 and sign * sample.mean >= rail.margin
        state = "held" if worst < rail.margin else "broken" if is_broken else "open"
    there = sample is not None and math.isfinite(sample.mean)
    return GuardrailAnswer(
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
