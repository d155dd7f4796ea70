"""Health checks: the limits at which each check fails."""

import numpy as np
import pytest

from vqmon.core.experiments.analysis.health_checks import (
    check_crossover_sessions,
    check_duplicate_segments,
    check_missing_pairs,
    check_mixed_blocks,
    check_versions,
    run_aa_test,
)


@pytest.mark.parametrize(
    ("in_arm", "in_control", "is_good"),
    [(0, 0, True), (7, 0, True), (8, 0, False), (50, 50, True), (58, 40, True), (64, 36, False), (60, 20, False)],
)
def test_missing_pairs_fail_when_one_arm_lacks_more_than_chance_explains(
    in_arm: int, in_control: int, *, is_good: bool
) -> None:
    """p < .01 where the imbalance is more than a hundredth of all pairs; equal losses at random are no imbalance."""
    check = check_missing_pairs(
        "v2", "v1", pairs=100, missing_in_arm=in_arm, missing_in_control=in_control, pending=0, silent={}
    )
    assert check.is_good is is_good
    assert bool(check.remedy) is not is_good


def test_a_small_imbalance_of_many_pairs_needs_more_evidence() -> None:
    """30 of 10,000 hardly move the answer: p < .001."""
    for in_arm, is_good in ((52, True), (60, False)):
        check = check_missing_pairs(
            "v2", "v1", pairs=10_000, missing_in_arm=in_arm, missing_in_control=25, pending=0, silent={}
        )
        assert check.is_good is is_good, check.text


@pytest.mark.parametrize(("pending", "is_good"), [(0, True), (100, True), (101, False)])
def test_an_arm_that_is_behind_by_more_than_is_compared_is_waited_for(pending: int, *, is_good: bool) -> None:
    """Arms scored one after the other: 11 of 200 segments of the second one are no answer, whatever ended it."""
    check = check_missing_pairs(
        "v2", "v1", pairs=100, missing_in_arm=0, missing_in_control=0, pending=pending, silent={}
    )
    assert check.is_good is is_good
    assert bool(check.remedy) is not is_good


def test_shares_of_bad_segments_blocks_and_sessions_have_limits() -> None:
    """One percent of duplicates and crossovers, five percent of mixed blocks."""
    assert check_duplicate_segments(1, pairs=100).is_good
    assert not check_duplicate_segments(2, pairs=100).is_good
    assert check_mixed_blocks(5, blocks=100).is_good
    assert not check_mixed_blocks(6, blocks=100).is_good
    assert check_crossover_sessions(1, sessions=100).is_good
    assert not check_crossover_sessions(2, sessions=100).is_good


def test_two_versions_of_a_component_fail() -> None:
    """The component that changed is named, the others are not."""
    check = check_versions({"lite": {"lite@1": 3, "lite@2": 4}, "sampling": {"exact": 7}})
    assert not check.is_good
    assert "lite@2 (4 segments)" in check.text
    assert "sampling" not in check.text


def test_an_aa_test_needs_eight_clusters_that_differ() -> None:
    """With fewer clusters there are too few sign patterns."""
    rng = np.random.default_rng(1)
    assert run_aa_test(np.ones(7), alpha=0.05, rng=rng) is None
    assert run_aa_test(np.zeros(20), alpha=0.05, rng=rng) is None
    check = run_aa_test(rng.normal(0, 1, 40), alpha=0.05, rng=rng)
    assert check is not None
    assert check.is_good
