"""Bridges between scorers: the right kind, an honest error, never falling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from vqmon.core.evaluation.score_bridge import ScoreBridge, fit_score_bridge


def made(count: int, *, noise: float, bend: bool, seed: int = 0) -> list[tuple[float, float]]:
    drawn = np.random.default_rng(seed)
    old = drawn.uniform(20, 95, count)
    true = 90 / (1 + np.exp(-(old - 55) / 5)) if bend else 0.8 * old + 5
    return [(float(a), float(b)) for a, b in zip(old, true + drawn.normal(0, noise, count), strict=True)]


@pytest.mark.parametrize(("bend", "kind"), [(False, "linear"), (True, "monotone")])
def test_the_kind_that_fits_and_its_error(bend: bool, kind: str) -> None:
    """A straight relation gets a line, a bent one steps; the error is the noise that was put in."""
    pairs = made(2000, noise=2.0, bend=bend)
    bridge = fit_score_bridge(pairs, old="a@1", new="a@2")
    assert bridge.kind == kind
    assert bridge.error_rms == pytest.approx(2.0, abs=0.35)
    assert bridge.error_p95 == pytest.approx(3.92, abs=0.9)
    assert bridge.correlation == pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic, abs=1e-4)
    fresh = made(2000, noise=0.0, bend=bend, seed=9)
    assert np.sqrt(np.mean([(bridge.apply(old) - new) ** 2 for old, new in fresh])) < 1.2


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=30, max_size=120))
def test_it_never_falls_and_stays_on_the_scale(pairs: list[tuple[float, float]]) -> None:
    """Whatever the scorers said."""
    olds = [old for old, _ in pairs]
    if max(olds) - min(olds) < 0.001:
        with pytest.raises(ValueError, match="a bridge needs different values"):
            fit_score_bridge(pairs, old="a@1", new="a@2")
        return
    bridge = fit_score_bridge(pairs, old="a@1", new="a@2")
    line = [bridge.apply(old) for old in np.linspace(0, 100, 101)]
    assert line == sorted(line)
    assert min(line) >= 0
    assert max(line) <= 100
    assert -1 <= bridge.correlation <= 1


def test_too_few_segments() -> None:
    """Said with the number that is needed."""
    with pytest.raises(ValueError, match="29 segments were scored by both a@1 and a@2; a bridge needs 30"):
        fit_score_bridge(made(29, noise=1, bend=False), old="a@1", new="a@2")


def test_a_bridge_that_falls_is_none() -> None:
    """Points must rise."""
    facts = {"old": "a", "new": "b", "kind": "linear", "count": 1, "error_rms": 0.0, "error_p95": 0.0, "bias": 0.0}
    more = {"correlation": 1.0, "old_score_min": 0.0, "old_score_max": 1.0}
    with pytest.raises(ValueError, match="rising points"):
        ScoreBridge(points=((0, 5), (1, 4)), **facts, **more)  # type: ignore[arg-type]
