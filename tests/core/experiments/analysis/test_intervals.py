"""The interval that decides: which one it is, and what makes it wider."""

import numpy as np
import pytest

from tests import factories
from vqmon.core.experiments.analysis.intervals import bounded_loss_bound, conservative_interval, decisive_interval
from vqmon.core.experiments.stats.estimators import paired_difference
from vqmon.core.experiments.stats.sequential import (
    MeanDifference,
    anytime_valid_interval,
    mixture_rho,
    skewness_corrected_interval,
    t_interval,
)

RHO = mixture_rho(alpha=0.05, planned_clusters=40)


def estimate_of(values: np.ndarray) -> MeanDifference:
    estimate = paired_difference(values)
    assert estimate is not None
    return estimate


def test_fewer_than_twenty_planned_clusters_are_read_by_t() -> None:
    """All others by the confidence sequence."""
    estimate = estimate_of(np.random.default_rng(1).normal(1, 1, 12))
    once, sequence = (factories.experiment(planned_clusters=planned) for planned in (12, 40))

    assert decisive_interval(once, estimate, rho=RHO, alpha=0.05) == t_interval(estimate, alpha=0.05)
    assert decisive_interval(sequence, estimate, rho=RHO, alpha=0.05) == anytime_valid_interval(
        estimate, rho=RHO, alpha=0.05
    )


def test_small_sure_gains_get_the_bound_of_rare_losses_on_both_sides() -> None:
    """Thirty gains of .3 with s.d. .1: the sequence excludes 0, the bounded loss does not; sessions have none."""
    experiment = factories.experiment()
    estimate = estimate_of(np.random.default_rng(2).normal(0.3, 0.1, 30))
    interval = anytime_valid_interval(estimate, rho=RHO, alpha=0.05)
    conservative = conservative_interval(experiment, estimate, interval)
    sessions = MeanDifference(n=30, mean=estimate.mean, sd=estimate.sd, degrees_of_freedom=29)

    assert conservative.low < 0 < interval.low
    assert conservative.high > interval.high
    assert conservative.mean == interval.mean
    assert conservative_interval(experiment, sessions, interval).low == interval.low
    fixed = factories.experiment(planned_clusters=19)
    assert conservative_interval(fixed, estimate, interval).low == pytest.approx(
        min(interval.low, skewness_corrected_interval(estimate, interval).low)
    )


def test_a_bound_that_is_safe_already_stays() -> None:
    """With a largest loss of a tenth of the deviation, the sequence is further away."""
    estimate = estimate_of(np.random.default_rng(3).normal(0.3, 1.0, 30))
    assert bounded_loss_bound(estimate, -0.4, largest_loss=0.1, alpha=0.05, sign=1) == -0.4
    assert bounded_loss_bound(estimate, 1.0, largest_loss=0.1, alpha=0.05, sign=-1) == 1.0
    mirrored = estimate_of(-np.asarray(estimate.values))
    low = bounded_loss_bound(estimate, 0.2, largest_loss=10.0, alpha=0.05, sign=1)
    assert low < 0.2
    assert bounded_loss_bound(mirrored, -0.2, largest_loss=10.0, alpha=0.05, sign=-1) == pytest.approx(-low)
