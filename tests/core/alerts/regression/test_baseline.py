"""The usual level against its formulas by numpy, and limits from the lows of blocks."""

import numpy as np
import pytest

from tests.core.alerts.regression.noise import ar1
from vqmon.core.alerts.regression.baseline import (
    MIN_BLOCKS,
    MIN_SPREAD,
    Baseline,
    BlockLows,
    baseline_of,
    limit_factor,
    with_block,
    with_value,
)

PER_BLOCK = 1 / 24 / 30


def learned(values: np.ndarray, *, max_count: float = 21_600.0) -> Baseline:
    baseline = baseline_of(values[:30].tolist())
    for value in values[30:].tolist():
        baseline = with_value(baseline, value, max_count=max_count)
    return baseline


def after_blocks(lows: list[float], *, highest_limit: float = 100.0) -> BlockLows:
    state = BlockLows(lows[0])
    for number, lowest in enumerate(lows, start=1):
        state = state._replace(lowest=lowest)
        state = with_block(
            state, 70.0, block_count=float(number), highest_limit=highest_limit, false_alarms_per_block=PER_BLOCK
        )
    return state


def test_the_figures_are_those_of_the_formulas() -> None:
    """Median, MAD and clipped mean square, by numpy."""
    values = ar1(4, 400, 0.6, tails=4)
    baseline = baseline_of(values.tolist())
    deviations = values - np.median(values)
    spread = 1.4826 * np.median(np.abs(deviations))
    clipped = np.clip(deviations, -4 * spread, 4 * spread)
    assert baseline[:3] == pytest.approx((400, np.median(values), spread))
    assert baseline.mean_square == pytest.approx((clipped**2).mean())


@pytest.mark.parametrize("phi", [0.0, 0.8])
@pytest.mark.parametrize("tails", [0.0, 4.0])
def test_what_is_learned_value_by_value_is_what_the_batch_gives(phi: float, tails: float) -> None:
    values = ar1(3, 8000, phi, tails=tails)
    baseline, batch = learned(values), baseline_of(values.tolist())
    assert baseline.level == pytest.approx(batch.level, abs=0.15)
    assert baseline.spread == pytest.approx(batch.spread, rel=0.06)
    assert baseline.mean_square == pytest.approx(batch.mean_square, rel=0.08)


def test_an_hour_of_fault_hardly_moves_the_usual_level() -> None:
    values = ar1(5, 21_600, 0.3)
    values[10_000:10_900] -= 30
    assert learned(values).level == pytest.approx(np.median(ar1(5, 21_600, 0.3)), abs=0.3)


def test_a_level_that_lasts_is_learned_from_any_beginning() -> None:
    """The first values were those of another programme, ten points lower."""
    values = np.concatenate([ar1(6, 900, 0.3) - 10, ar1(7, 20_000, 0.3)])
    assert learned(values).level == pytest.approx(70, abs=1)


def test_a_constant_series_has_the_smallest_spread() -> None:
    baseline = learned(np.full(500, 70.0))
    assert (baseline.level, baseline.spread, baseline.mean_square) == (70.0, MIN_SPREAD, 0.0)


def test_the_factor_is_that_of_a_gumbel_sample() -> None:
    """Simulated: a new low passes mean - factor x deviation of the blocks before it as often as is wanted."""
    chance = np.random.default_rng(1)
    for count in (6, 12, 48):
        lows = -chance.gumbel(size=(40_000, count))
        new = -chance.gumbel(size=(40_000, 20))
        limits = lows.mean(axis=1) - limit_factor(count, 0.01) * lows.std(axis=1, ddof=1)
        assert 0.6 <= (new < limits[:, None]).mean() / (0.01 / 2) <= 1.3


def test_a_limit_begins_with_the_third_block() -> None:
    lows = [68.0, 67.0, 69.0, 68.5]
    assert after_blocks(lows[: MIN_BLOCKS - 1]).limit == 0.0
    state = after_blocks(lows)
    assert state.mean == pytest.approx(np.mean(lows))
    assert state.variance == pytest.approx(np.var(lows))
    expected = np.mean(lows) - limit_factor(4, PER_BLOCK) * np.std(lows, ddof=1)
    assert state.limit == pytest.approx(expected, abs=0.001)


def test_where_lows_change_slowly_the_limit_follows_the_last_one() -> None:
    """A daily pattern of four points: the lows lie 2.8 points about their mean, and change by 0.7 from hour to hour."""
    hours = np.arange(48)
    lows = 66 + 4 * np.sin(2 * np.pi * hours / 24)
    changes = np.diff(lows)
    state = after_blocks(lows.tolist())
    expected = lows[-1] - 0.85 * limit_factor(48, PER_BLOCK) * np.sqrt((changes**2).mean())
    assert state.limit == pytest.approx(expected, abs=0.01)
    assert state.limit > np.mean(lows) - 0.4 * limit_factor(48, PER_BLOCK) * np.std(lows, ddof=1)


def test_where_lows_are_independent_the_last_one_does_not_matter() -> None:
    """The mean is the better guide: the limit from the last low is farther below it, whatever that low was."""
    lows = ar1(8, 48, 0.0, deviation=1.0)
    for last in (lows.min(), float(np.median(lows))):
        lows[-1] = last
        expected = lows.mean() - limit_factor(48, PER_BLOCK) * lows.std(ddof=1)
        assert after_blocks(lows.tolist()).limit == pytest.approx(expected, abs=0.02)


def test_a_limit_is_never_nearer_to_the_usual_level_than_is_allowed() -> None:
    """A constant series, or one that is quantised, has lows that are all the same."""
    assert after_blocks([100.0] * 10, highest_limit=97.5).limit == 97.5
    assert after_blocks([100.0] * 10).limit < 100.0 - 4 * MIN_SPREAD


def test_a_low_far_beyond_the_limit_counts_as_one_half_as_far_again() -> None:
    """A fault widens the limit by a little; what turns out to be usual is learned."""
    usual = [68.0, 68.5, 67.5, 68.2] * 6
    before = after_blocks(usual)
    bound = before.limit - 0.5 * (before.mean - before.limit)
    assert after_blocks([*usual, 20.0]) == after_blocks([*usual, bound])
    assert after_blocks([*usual, bound + 0.1]) != after_blocks([*usual, bound])
    assert after_blocks([*usual, *[60.0] * 12]).limit < 60.0
