"""What is proposed for series of known noise, and what it then does on noise of that kind."""

import pytest

from tests.core.alerts.regression.test_cusum import ar1
from vqmon.core.alerts.backtest.tuning import Recorded, expected, noise_of, propose
from vqmon.core.alerts.regression.cusum import Tuning


def recorded(seed: int, count: int, phi: float = 0.0, *, tails: float = 0.0) -> Recorded:
    values = ar1(seed, count, phi, tails=tails)
    return Recorded(name=f"s{seed}", values=tuple((4.0 * n, 4.0 * n + 4, float(v)) for n, v in enumerate(values)))


def test_the_noise_is_measured() -> None:
    """Level, deviation, memory and tails of what is known."""
    plain, heavy = noise_of(recorded(1, 5000, 0.6)), noise_of(recorded(2, 5000, 0.0, tails=4))
    assert (plain.level, plain.deviation, plain.memory) == (
        pytest.approx(70, abs=0.3), pytest.approx(3, abs=0.15), pytest.approx(0.6, abs=0.04),
    )  # fmt: skip
    assert plain.tail < 0.006 < 0.015 < heavy.tail


def test_h_follows_the_wanted_rate_and_k_the_drop() -> None:
    """Rarer alarms ask for more evidence; larger drops for a larger k; quiet series are left to the tables."""
    series = [recorded(seed, 4000) for seed in range(3)]
    often = propose(series, wanted=1.0, drop=3.0, tuning=Tuning())
    seldom = propose(series, wanted=0.033, drop=3.0, tuning=Tuning())
    large = propose(series, wanted=0.033, drop=6.0, tuning=Tuning())
    assert often.h < seldom.h
    assert seldom.k == pytest.approx(0.5, abs=0.03)
    assert large.k == pytest.approx(1.0, abs=0.06)
    assert (seldom.h, seldom.segment_seconds, seldom.baseline_segments) == (seldom.h_by_tables, 4.0, 21_600)
    assert seldom.h == pytest.approx(11.5, abs=0.7)


def test_what_moves_more_than_noise_raises_h() -> None:
    """Slow waves of a few points are no noise: h is raised until they give no more than is wanted."""
    rough = []
    for seed in range(4):
        values = ar1(seed, 4000, 0.3)
        for start in range(600, 4000, 400):
            values[start : start + 60] -= 4
        rough.append(
            Recorded(name=f"s{seed}", values=tuple((4.0 * n, 4.0 * n + 4, float(v)) for n, v in enumerate(values)))
        )  # fmt: skip
    proposal = propose(rough, wanted=0.1, drop=3.0, tuning=Tuning())
    assert proposal.h > proposal.h_by_tables


def test_delays_fall_with_the_drop() -> None:
    """Small drops are seen late or never, large ones in segments."""
    proposal = propose([recorded(1, 4000, 0.6)], wanted=0.033, drop=5.0, tuning=Tuning())
    found = expected(proposal, [1.0, 2.5, 5.0, 12.5, 25.0])
    assert found[0].median is None
    delays = [it.median for it in found[1:]]
    assert delays == sorted(delays, reverse=True)
    assert delays[-1] <= 8


def test_too_little_is_said_so() -> None:
    """A few minutes of scores propose nothing."""
    with pytest.raises(ValueError, match="240"):
        propose([recorded(1, 100)], wanted=0.033, drop=5.0, tuning=Tuning())
