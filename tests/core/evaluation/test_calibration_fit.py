"""Fitted calibrations: the map, percentiles, and intervals whose coverage is measured."""

import numpy as np
import pytest
from numpy.typing import NDArray

from vqmon.core.calibration import Calibration
from vqmon.core.evaluation.calibration_fit import CalibrationSample, FittedCalibration, fit_calibration

Floats = NDArray[np.float64]


def _sample(count: int, *, seed: int = 1, sign: float = 1.0) -> CalibrationSample:
    """A bent scale with noise that is larger for low scores."""
    rng = np.random.default_rng(seed)
    natives = rng.normal(size=count)
    scores = 50 + 30 * np.tanh(natives) + (9 - 4 * np.tanh(natives)) * rng.normal(size=count)
    return CalibrationSample(natives=sign * natives, scores=np.clip(scores, 0, 100))


def _fit(sample: CalibrationSample, *, coverage: float = 0.9, higher_is_better: bool = True) -> FittedCalibration:
    def revalue(calibration: Calibration, rows: NDArray[np.intp]) -> Floats:
        return np.array([calibration.apply(native) for native in sample.natives[rows].tolist()])

    return fit_calibration(
        sample, revalue, version=2, higher_is_better=higher_is_better, coverage=coverage, population="a test"
    )


def test_the_map_follows_the_human_scores() -> None:
    """Within 2 points of the truth where there are items; monotone; error and bias of held-out items are stated."""
    fitted = _fit(_sample(800))
    for native in (-1.5, -0.5, 0.0, 0.5, 1.5):
        assert fitted.calibration.apply(native) == pytest.approx(50 + 30 * np.tanh(native), abs=2)
    assert fitted.calibration.version == 2
    assert fitted.error_rms == pytest.approx(9.5, abs=1.0)
    assert abs(fitted.bias) < 0.5


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_the_interval_covers_new_items_as_stated(coverage: float) -> None:
    """On 4,000 items that the fit has not seen, in the lower and in the upper half too; as the report says."""
    fitted, new = _fit(_sample(1000), coverage=coverage), _sample(4000, seed=2)
    values = np.array([fitted.calibration.apply(native) for native in new.natives.tolist()])
    intervals = [fitted.interval.at(value) for value in values.tolist()]
    within = np.array([each.low <= score <= each.high for each, score in zip(intervals, new.scores, strict=True)])
    assert within.mean() == pytest.approx(coverage, abs=0.025)
    for half in (values < 50, values >= 50):
        assert within[half].mean() == pytest.approx(coverage, abs=0.04)
    assert fitted.coverage == pytest.approx(coverage, abs=0.02)
    widths = [above + below for _, below, above in fitted.interval.points]
    assert widths[0] > 1.5 * widths[-1]


def test_contents_are_held_out_as_a_whole() -> None:
    """Every fold has some contents, and no content is in two of them."""
    rng = np.random.default_rng(3)
    contents = np.repeat(np.arange(40), 10)
    sample = CalibrationSample(
        natives=np.arange(400) / 100,
        scores=np.clip(rng.normal(50, 20, 400), 0, 100),
        contents=tuple(str(content) for content in contents.tolist()),
    )
    folds = sample.folds(rng, 5)
    assert all(len(set(folds[contents == content].tolist())) == 1 for content in range(40))
    assert set(folds.tolist()) == set(range(5))


def test_percentiles_are_those_of_the_population() -> None:
    """Half of the items are worse than the median, also on a scale where lower is better."""
    sample = _sample(500)
    median = float(np.median(sample.natives))
    assert _fit(sample).percentiles.apply(median) == pytest.approx(50, abs=0.1)
    assert _fit(sample).percentiles.apply(float(np.quantile(sample.natives, 0.95))) == pytest.approx(95, abs=0.1)
    falling = _sample(500, sign=-1.0)
    fitted = _fit(falling, higher_is_better=False)
    assert fitted.percentiles.apply(float(falling.natives.min())) == 100
    assert fitted.calibration.points[0][1] > fitted.calibration.points[-1][1]


def test_a_sample_that_says_nothing_is_refused() -> None:
    """Too few items; a scorer that falls when people like it better."""
    with pytest.raises(ValueError, match="49 items; a calibration needs at least 50"):
        _fit(_sample(49))
    with pytest.raises(ValueError, match="do not rise with the human scores"):
        _fit(_sample(200, sign=-1.0))
