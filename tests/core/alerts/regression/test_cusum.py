"""The chart against its formulas, written out a second time; what it learns against the batch; what changes nothing."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vqmon.core.alerts.regression.baseline import COLD, Usual, usual_of
from vqmon.core.alerts.regression.change_point import drop_of
from vqmon.core.alerts.regression.cusum import (
    FRESH,
    HOT,
    WARM,
    Chart,
    Memory,
    Tuning,
    calmed,
    is_alarm,
    is_back,
    opened,
    parts,
    rank_residual,
    step,
    step_open,
)

USUAL = Usual(
    number=10_000, level=70.0, spread=4.0, square=15.0, product=7.5, scale=3.4, mean=0.1, variance=11.0
)  # fmt: skip
TUNING = Tuning()
WARMED: Memory = (*Chart(last=70.0, last_until=1000.0), *USUAL)


def ar1(seed: int, count: int, phi: float, *, tails: float = 0.0, deviation: float = 3.0) -> NDArray[np.float64]:
    """Noise of this deviation around 70: AR(1), innovations normal or t with so many degrees of freedom."""
    chance = np.random.default_rng(seed)
    steps = chance.standard_t(tails, count) / math.sqrt(tails / (tails - 2)) if tails else chance.normal(size=count)
    values = np.empty(count)
    last = chance.normal()
    for n, one in enumerate(steps * math.sqrt(1 - phi * phi)):
        last = values[n] = phi * last + one
    return 70 + deviation * values


def run(
    memory: Memory, values: NDArray[np.float64] | list[float], *, start: float = 1000.0, tuning: Tuning = TUNING
) -> list[Memory]:
    """The memory after each value, of 4-second segments one after the other."""
    after = []
    for n, value in enumerate(values):
        at = start + 4.0 * n
        memory = step(tuning, memory, float(value), at=at, until=at + 4.0, impact=0.1)
        after.append(memory)
    return after


def charts(memories: list[Memory]) -> list[Chart]:
    return [parts(memory)[0] for memory in memories]


def test_the_recipe_step_by_step() -> None:
    """Whitening, clipping, standardising and the sum, as the formulas say, while the usual stays as it is."""
    values = ar1(1, 30, 0.5)
    phi, deviation = 7.5 / 15.0, math.sqrt(11.0)
    residuals = [one - 70 - phi * (before - 70) for before, one in pairwise([70.0, *values])]
    z = [-(min(max(one, -3 * 3.4), 3 * 3.4) - 0.1) / deviation for one in residuals]
    s, expected = 0.0, []
    for one in z:
        s = max(0.0, s + one - 0.5 - 1 / math.sqrt(10_000))
        expected.append(s)
    assert [chart.s for chart in charts(run(WARMED, values))] == pytest.approx(expected, abs=1e-12)


def test_a_missing_segment_restarts_the_lag() -> None:
    """After a hole the value alone counts, scaled to the residuals' deviation; nothing is made up."""
    memory = step(TUNING, WARMED, 60.0, at=1008.0, until=1012.0, impact=0.1)
    z = -(max(-10.0 * math.sqrt(1 - 0.25), -10.2) - 0.1) / math.sqrt(11.0)
    assert parts(memory)[0].s == pytest.approx(z - 0.51)


def test_the_change_is_the_last_moment_at_zero() -> None:
    """With the values since; a value that brings the sum to zero starts anew."""
    low = charts(run(WARMED, [70, 70, 55, 56, 57]))[-1]
    assert (low.since_at, low.since_count, low.since_sum) == (1008.0, 3.0, 168.0)
    assert low.since_impact == pytest.approx(0.3)
    assert charts(run(WARMED, [55, 90, 90]))[-1][5:9] == (1012.0, 0.0, 0.0, 0.0)


def test_the_e_detector_multiplies() -> None:
    """M = (M + 1) exp(z - k' - 1/2), alarm at M >= A; kept as ln(M + 1)."""
    tuning = Tuning(log_guarantee=math.log1p(1000.0))
    values = ar1(2, 20, 0.5) - 4
    plain = charts(run(WARMED, values))
    zs, m, found = [], 0.0, charts(run(WARMED, values, tuning=tuning))
    phi = 0.5
    for before, one in pairwise([70.0, *values]):
        residual = one - 70 - phi * (before - 70)
        zs.append(-(min(max(residual, -10.2), 10.2) - 0.1) / math.sqrt(11.0))
    for n, z in enumerate(zs):
        m = (m + 1) * math.exp(z - 0.01 - 0.5)
        assert found[n].log_m == pytest.approx(math.log1p(m))
        assert is_alarm(tuning, found[n]) == (m >= 1000)
    assert found[-1].s == plain[-1].s


def test_two_shocks_in_a_row_are_an_alarm() -> None:
    """Clipping would take five segments for what two show."""
    one, two = charts(run(WARMED, [35.0, 10.0]))
    assert not is_alarm(TUNING, one)
    assert is_alarm(TUNING, two)
    assert two.s < TUNING.h
    assert not is_alarm(TUNING, charts(run(WARMED, [35.0, 70.0, 35.0]))[-1])


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.8])
@pytest.mark.parametrize("tails", [0.0, 4.0])
def test_what_is_learned_is_what_the_batch_gives(phi: float, tails: float) -> None:
    """After a few hours the running figures are the batch's, within a few percent."""
    values = ar1(3, 8000, phi, tails=tails)
    usual = parts(run(FRESH, values)[-1])[1]
    batch = usual_of(values.tolist())
    assert usual.level == pytest.approx(batch.level, abs=0.1)
    assert usual.memory == pytest.approx(batch.memory, abs=0.03)
    for name in ("spread", "scale", "variance"):
        assert getattr(usual, name) == pytest.approx(getattr(batch, name), rel=0.06)
    # Values of the last ten minutes and more are not in it yet.
    assert 8000 - 240 < usual.number < 8000 - 140


def test_the_batch_is_the_recipe() -> None:
    """Median, clipped lag-1 correlation, MAD of residuals, mean and deviation of the clipped ones, by numpy."""
    values = ar1(4, 400, 0.6, tails=4)
    usual = usual_of(values.tolist())
    away = values - np.median(values)
    spread = 1.4826 * np.median(np.abs(away))
    clipped = np.clip(away, -3 * spread, 3 * spread)
    phi = (clipped[1:] * clipped[:-1]).mean() / (clipped**2).mean()
    residuals = away[1:] - phi * away[:-1]
    scale = 1.4826 * np.median(np.abs(residuals - np.median(residuals)))
    bounded = np.clip(residuals, -3 * scale, 3 * scale)
    assert (usual.level, usual.spread) == pytest.approx((np.median(values), spread))
    assert (usual.memory, usual.scale) == pytest.approx((phi, scale))
    assert (usual.mean, usual.variance) == pytest.approx((bounded.mean(), bounded.var()))


def test_the_usual_is_frozen_and_lags() -> None:
    """A fault is not learned: neither while evidence gathers, nor what of it waited to be old enough."""
    values = ar1(5, 3000, 0.3)
    before = run(FRESH, values)[-1]
    fault = run(before, values[:40] - 6, start=1000.0 + 4 * 3000)
    tipped = next(n for n, chart in enumerate(charts(fault)) if is_alarm(TUNING, chart))
    at_alarm = fault[tipped]
    assert parts(at_alarm)[1].number - parts(before)[1].number <= 2 * 38
    assert parts(at_alarm)[1].level == pytest.approx(parts(before)[1].level, abs=0.2)
    chart, usual, blocks = parts(opened(at_alarm, drop=6, flap_seconds=1800, at=0.0))
    ends = [blocks[start + 1] for start in range(0, len(blocks), 10)]
    assert all(end <= chart.since_at + 0.5 for end in ends)
    later = opened(at_alarm, drop=6, flap_seconds=1800, at=0.0)
    for n in range(500):
        at = chart.last_until + 4.0 * n
        later = step_open(TUNING, later, 60.0, at=at, until=at + 4)
    assert parts(later)[1] == usual


def test_an_alert_ends_on_evidence_and_flapping_asks_for_more() -> None:
    """Back at the usual it is over within two minutes; at the low level it stays for hours."""
    values = ar1(6, 4000, 0.0)
    memory = run(FRESH, values)[-1]
    chart = parts(memory)[0]
    low = opened(memory, drop=6, flap_seconds=1800, at=chart.last_until)
    at = chart.last_until
    for n, value in enumerate(ar1(7, 5000, 0.0) - 6):
        low = step_open(TUNING, low, float(value), at=at + 4 * n, until=at + 4 * n + 4)
        assert not is_back(TUNING, parts(low)[0])
    needed = []
    for flaps in (0.0, 2.0):
        memory = (*parts(low)[0]._replace(flaps=flaps), *low[HOT:])
        for n, value in enumerate(ar1(8, 60, 0.0)):
            memory = step_open(TUNING, memory, float(value), at=at + 4 * n, until=at + 4 * n + 4)
            if is_back(TUNING, parts(memory)[0]):
                needed.append(n + 1)
                break
    assert needed[0] <= 12
    assert needed[0] < needed[1] <= 30
    closed = calmed(low, closed_at=at)
    assert parts(opened(closed, drop=6, flap_seconds=1800, at=at + 100))[0].flaps == 1
    assert parts(opened(closed, drop=6, flap_seconds=1800, at=at + 4000))[0].flaps == 0


def test_the_drop_comes_with_an_interval_that_holds() -> None:
    """Of planted drops most lie inside, whatever the noise's memory."""
    for phi in (0.0, 0.6):
        inside = 0
        memory = run(FRESH, ar1(9, 3000, phi))[-1]
        for seed in range(60):
            at = parts(memory)[0].last_until
            settled = run(memory, ar1(100 + seed, 20, phi), start=at)[-1]
            fault = run(settled, ar1(200 + seed, 200, phi) - 8, start=at + 80)
            tipped = next(it for it in fault if is_alarm(TUNING, parts(it)[0]))
            _, _, least, most = drop_of(tipped)
            inside += least <= 8 <= most
        assert inside >= 52


# what changes nothing

values_of = st.lists(st.floats(20, 95, allow_nan=False).map(lambda value: round(value, 3)), min_size=1, max_size=260)


@settings(max_examples=40)
@given(values_of, st.integers(0, 260))
def test_a_restart_anywhere_changes_no_bit(values: list[float], cut: int) -> None:
    """Written as JSON and read again at any place, the memory goes on as if nothing had been."""
    whole = run(FRESH, values)
    cut = min(cut, len(values))
    kept = tuple(json.loads(json.dumps(whole[cut - 1]))) if cut else FRESH
    assert run(kept, values[cut:], start=1000.0 + 4 * cut) == whole[cut:]


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.5, 3.0), st.floats(-20, 20))
def test_level_and_scale_do_not_matter(seed: int, scale: float, shift: float) -> None:
    """The same noise on another level and another scale gives the same evidence."""
    values = ar1(seed, 400, 0.5)
    plain = charts(run(FRESH, values))
    other = charts(run(FRESH, (values - 70) * scale + 70 + shift))
    # The first values are kept to three digits, so that ranks of near ones may change places.
    assert [it.s for it in other[COLD:]] == pytest.approx([it.s for it in plain[COLD:]], abs=0.3)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(0, 399))
def test_a_lower_value_is_never_less_evidence(seed: int, place: int) -> None:
    """At the moment at which it comes."""
    values = ar1(seed, place + 1, 0.5)
    lower = values.copy()
    lower[place] -= 5
    assert charts(run(WARMED, lower))[-1].s >= charts(run(WARMED, values))[-1].s


def test_a_memory_is_small() -> None:
    """Numbers of a chart at any time: at most 1.4 kB as JSON."""
    assert max(len(json.dumps(memory)) for memory in run(FRESH, ar1(1, 2000, 0.6, tails=4))) < 1400


def test_what_stands_still_is_no_alarm() -> None:
    """A constant score, and one that moves by rounding only, give no evidence; a step of a point does."""
    assert charts(run(FRESH, [70.0] * 500))[-1].s == 0.0
    assert not any(is_alarm(TUNING, it) for it in charts(run(FRESH, [70.0 + 0.01 * (n % 3) for n in range(500)])))
    assert any(is_alarm(TUNING, it) for it in charts(run(FRESH, [70.0] * 300 + [69.0] * 10)))


# the first values


def test_ranks_are_of_any_distribution() -> None:
    """Stretching the values in any order-keeping way moves independent ranks little; low is positive."""
    assert rank_residual([*range(50, 90), 1], 40) > 1.5
    assert rank_residual([*range(50, 90), 200], 40) < -1.5
    found = [rank_residual(ar1(seed, 60, 0.0).tolist(), 59) for seed in range(400)]
    assert np.mean(found) == pytest.approx(0, abs=0.15)
    assert np.std(found) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("phi", "tails"), [(0.0, 0.0), (0.8, 0.0), (0.0, 4.0), (0.8, 4.0)])
def test_the_first_minutes_are_quiet(phi: float, tails: float) -> None:
    """Without a baseline nothing is alarmed that is noise, and a large drop is."""
    false = sum(
        is_alarm(TUNING, it) for seed in range(30) for it in charts(run(FRESH, ar1(seed, 130, phi, tails=tails)))
    )
    assert false == 0
    seen = 0
    for seed in range(20):
        values = ar1(seed, 110, phi, tails=tails)
        values[70:] -= 15
        seen += any(is_alarm(TUNING, it) for it in charts(run(FRESH, values)))
    assert seen >= (18 if phi == 0 else 3)


def test_names_and_places_agree() -> None:
    """The chart, then the usual, then what is behind them."""
    memory = run(FRESH, ar1(1, 500, 0.5))[-1]
    chart, usual, blocks = parts(memory)
    assert (*chart, *usual, *blocks) == memory
    assert len(memory) - WARM == len(blocks) == 10 * (len(blocks) // 10)
