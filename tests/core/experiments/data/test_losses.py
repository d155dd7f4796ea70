"""Losses and content: which losses are found to depend on it."""

from collections.abc import Callable

import numpy as np
import pytest

from tests import factories
from vqmon.core.experiments.results import Comparison
from vqmon.core.types import Outcome


def comparison_with_losses(is_lost: Callable[[np.random.Generator, float, int], bool]) -> Comparison:
    """30 streams of 20 segments; v2 loses those that `is_lost` says, by the level of the stream and the hardness."""
    rng = np.random.default_rng(11)
    outcomes: list[Outcome] = []
    for stream in range(30):
        level = float(rng.uniform(40, 80))
        for sequence in range(20):
            hardness = int(rng.integers(0, 5))
            score = level - 2 * hardness + float(rng.normal(0, 1))
            outcomes.append(factories.arm_event(arm="v1", stream=stream, sequence=sequence, score=score))
            outcomes.append(
                factories.arm_failure(arm="v2", stream=stream, sequence=sequence)
                if is_lost(rng, level, hardness)
                else factories.arm_event(
                    arm="v2", stream=stream, sequence=sequence, score=score + 1 - 0.5 * hardness + float(rng.normal())
                )
            )
            if rng.random() < 0.05:
                outcomes[-2] = factories.arm_failure(arm="v1", stream=stream, sequence=sequence)
    return factories.comparison(experiment=factories.experiment(), outcomes=outcomes)


def test_hard_segments_that_are_lost_are_found_within_their_contents() -> None:
    """As many are lost in the other arm at random, so that the missing pairs are balanced; the verdict is blocked."""
    comparison = comparison_with_losses(lambda rng, level, hardness: hardness == 4 and rng.random() < 0.25)

    assert factories.health_check(comparison, "missing pairs").is_good
    check = factories.health_check(comparison, "lost content")
    assert not check.is_good
    assert "points lower than the compared ones" in check.text
    assert factories.first_result(comparison).verdict.kind == "undecided"


def test_hard_contents_that_are_lost_are_found_between_contents() -> None:
    """Within a content the losses are random, but only dark streams lose segments."""
    comparison = comparison_with_losses(lambda rng, level, hardness: level < 52 and rng.random() < 0.2)
    assert "contents that score otherwise" in factories.health_check(comparison, "lost content").text


def test_losses_at_random_are_good_while_they_are_few() -> None:
    """5 % in both arms depend on nothing; 20 % could decide whatever they depend on."""
    few = comparison_with_losses(lambda rng, level, hardness: rng.random() < 0.05)
    many = comparison_with_losses(lambda rng, level, hardness: rng.random() < 0.2)

    assert factories.health_check(few, "lost content").is_good
    assert "could decide the answer" in factories.health_check(many, "lost content").text


@pytest.mark.parametrize("streams", [1, 30])
def test_without_losses_there_is_nothing_to_test(streams: int) -> None:
    comparison = factories.comparison(
        experiment=factories.experiment(), outcomes=factories.paired_events(streams=streams, segments=3)
    )
    check = factories.health_check(comparison, "lost content")
    assert (check.is_good, check.p) == (True, None)
