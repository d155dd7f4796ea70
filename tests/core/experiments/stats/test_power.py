"""Sample sizes against statsmodels, and what a plan refuses."""

import math
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from vqmon.core.experiments.stats.distributions import normal_cdf, normal_quantile
from vqmon.core.experiments.stats.power import (
    PowerAssumptions,
    fixed_horizon_power,
    pilot_inflation,
    plan_sample_size,
    sequential_power,
)
from vqmon.core.experiments.stats.sequential import confidence_sequence_half_width, mixture_rho


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
    with pytest.raises(ValueError, match="difference as a number that is more than 0"):
        PowerAssumptions(difference=0, sd=1)


@pytest.mark.parametrize(("sd", "icc"), [(0.05, 0.0), (0.012, 1.0)])
def test_differences_that_do_not_vary_cannot_be_planned(sd: float, icc: float) -> None:
    """An analysis says of them that they are no measurement, so no number of clusters has the wished power."""
    with pytest.raises(ValueError, match="a plan needs differences that vary"):
        PowerAssumptions(difference=1.25, sd=sd, icc=icc)
    assert plan_sample_size(PowerAssumptions(difference=1.25, sd=0.1, icc=icc)).clusters_anytime >= 20


@pytest.mark.parametrize("name", ["difference", "sd", "icc", "power", "segments_cv", "autocorrelation", "alpha"])
def test_what_is_no_number_is_refused_by_its_name(name: str) -> None:
    """NaN and infinity, which compare with nothing or everything."""
    good = {"difference": 1.0, "sd": 2.0}
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match=f"a plan needs {name} as a number"):
            PowerAssumptions(**{**good, name: value})


def test_uneven_clusters_and_segments_that_follow_each_other_need_more_clusters() -> None:
    """cv 1 halves the segments of a cluster, as 15 instead of 30; AR(.5) leaves a third of them."""
    even = PowerAssumptions(difference=1.0, sd=5.0, icc=0.05)
    uneven = replace(even, segments_cv=1.0)

    assert uneven.cluster_sd == pytest.approx(replace(even, segments_per_cluster=15).cluster_sd)
    assert replace(even, autocorrelation=0.5).cluster_sd == pytest.approx(
        replace(even, segments_per_cluster=10).cluster_sd
    )
    assert plan_sample_size(uneven).clusters_anytime > plan_sample_size(even).clusters_anytime
    assert replace(even, autocorrelation=0.999).cluster_sd == pytest.approx(5.0)


def test_plans_from_small_pilots_have_their_power_on_average() -> None:
    """Of 4,000 pilots of five clusters, with the true deviation 1 and a test at three standard errors."""
    rng = np.random.default_rng(1)
    measured = np.sqrt(rng.chisquare(4, 4000) / 4)
    factor = pilot_inflation(5, 0.8)

    def mean_power(sds: np.ndarray) -> float:
        # The plan takes as many clusters as `sds` needs for 80 %: then the true difference has this many errors.
        errors = (3 + normal_quantile(0.8)) * sds
        return float(np.mean([normal_cdf(float(error) - 3) for error in errors]))

    assert mean_power(measured * factor) == pytest.approx(0.8, abs=0.02)
    assert mean_power(measured) < 0.68
    assert factor > pilot_inflation(20, 0.8) > pilot_inflation(200, 0.8) >= 1


def test_small_sure_gains_need_enough_clusters_to_exclude_rare_losses() -> None:
    """A gain of half a point with s.d. .5: the sequence needs 20 clusters, rare losses of ten points 70."""
    assumed = PowerAssumptions(difference=0.5, sd=0.5, icc=1.0)

    assert 60 <= plan_sample_size(assumed).clusters_anytime <= 90
    assert plan_sample_size(replace(assumed, largest_loss=1.0)).clusters_anytime == 20


def test_blocks_that_are_correlated_are_planned_as_blocks() -> None:
    """Three blocks are worth an independent one."""
    assumed = PowerAssumptions(difference=1.0, sd=2.0)
    plan, blocks = plan_sample_size(assumed), plan_sample_size(replace(assumed, blocks_per_cluster=3.0))
    assert blocks.clusters_anytime == 3 * plan.clusters_anytime


def test_the_power_of_a_plan_is_reached() -> None:
    """1,000 runs of a plan for 80 %, read at every cluster from 20 on: 75 to 88 % leave 0."""
    plan = plan_sample_size(PowerAssumptions(difference=1.25, sd=2.84, icc=1.0))
    n = plan.clusters_anytime
    rho = mixture_rho(alpha=0.05, planned_clusters=n)
    values = np.random.default_rng(2).normal(1.25, 2.84, (1000, n))
    found = np.zeros(1000, bool)
    for looks in range(20, n + 1):
        sd = values[:, :looks].std(1, ddof=1)
        width = confidence_sequence_half_width(1.0, looks, rho=rho, alpha=0.05)
        found |= values[:, :looks].mean(1) > width * sd
    assert 0.75 <= found.mean() <= 0.88
