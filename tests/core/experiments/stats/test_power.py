"""Sample sizes against statsmodels, and what a plan refuses."""

import pytest
from statsmodels.stats.power import TTestPower

from vqmon.core.experiments.stats.power import (
    PowerAssumptions,
    fixed_horizon_power,
    plan_sample_size,
    sequential_power,
)


def test_plan() -> None:
    """Clusters for a final look as statsmodels solves them; an any-time look needs more, and both see what they say."""
    plan = plan_sample_size(PowerAssumptions(difference=1.25, sd=5.0, icc=0.3, segments_per_cluster=30))
    theirs = TTestPower().solve_power(1.25 / plan.cluster_sd, alpha=0.05, power=0.8)

    assert plan.design_effect == pytest.approx(9.7)
    assert plan.clusters_final == pytest.approx(theirs, abs=1)
    assert plan.clusters_final < plan.clusters_anytime <= 84
    assert sequential_power(1.25, plan.cluster_sd, plan.clusters_anytime, alpha=0.05) >= 0.8
    assert fixed_horizon_power(0.5, 1.0, 84, alpha=0.05) == pytest.approx(TTestPower().power(0.5, 84, 0.05), abs=0.002)
    stricter = plan_sample_size(PowerAssumptions(difference=1.25, sd=5.0, hypotheses=4, guardrails=3))
    assert stricter.clusters_anytime > plan.clusters_anytime
    with pytest.raises(ValueError, match="difference > 0"):
        PowerAssumptions(difference=0, sd=1)
