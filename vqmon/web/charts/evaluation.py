"""The charts of an evaluation: scatter with the fitted logistic, residuals, and reliability."""

from collections.abc import Sequence

import numpy as np

from vqmon.core.calibration import IntervalTable
from vqmon.core.evaluation.results import ScorerResult
from vqmon.web.charts.svg import (
    Plot,
    ReferenceLine,
    Scale,
    Shape,
    Tick,
    area_path,
    dots_path,
    horizontal_scale,
    line_path,
    range_around_zero,
    vertical_scale,
)

_HEIGHT = 300.0
_MAX_DOTS = 3000
"""Items that are drawn; the JSON has all of them."""
_CURVE_POINTS = 120


def scatter_plot(result: ScorerResult, predictions: Sequence[float], scores: Sequence[float]) -> Plot:
    """Human scores over predictions, and the logistic curve that was fitted to them."""
    x = horizontal_scale(*_padded(predictions))
    y = vertical_scale(*_padded(scores), height=_HEIGHT)
    natives = np.linspace(x.low, x.high, _CURVE_POINTS)
    curve = [(x(native), y(value)) for native, value in zip(natives, result.logistic(natives).tolist(), strict=True)]
    return Plot(
        label=f"Human score over the prediction of {result.scorer} ({len(scores)} items), and the fitted logistic.",
        height=_HEIGHT,
        y_ticks=y.ticks(),
        x_ticks=_inner_ticks(x),
        shapes=[
            Shape(path=dots_path(_sampled(predictions, scores, x=x, y=y)), css_class="dots"),
            Shape(path=line_path(curve), css_class="s c1"),
        ],
    )


def residual_plot(result: ScorerResult, predictions: Sequence[float], scores: Sequence[float]) -> Plot:
    """What the mapped prediction misses: human score minus mapped prediction, over the mapped prediction."""
    mapped = result.logistic(np.asarray(predictions)).tolist()
    residuals = [score - value for score, value in zip(scores, mapped, strict=True)]
    x = horizontal_scale(*_padded(mapped))
    y = vertical_scale(*range_around_zero(residuals, min_extent=1e-6), height=_HEIGHT)
    return Plot(
        label=f"Residuals of {result.scorer}: human score minus mapped prediction, over the mapped prediction.",
        height=_HEIGHT,
        y_ticks=y.ticks(),
        x_ticks=_inner_ticks(x),
        shapes=[Shape(path=dots_path(_sampled(mapped, residuals, x=x, y=y)), css_class="dots")],
        reference_lines=[ReferenceLine(css_class="zero", y=y(0.0))],
    )


def reliability_plot(result: ScorerResult) -> Plot:
    """The mean human score in bins of the mapped prediction, with 95 % intervals; a line where both are equal."""
    bins = result.reliability
    low, high = _padded([value for each in bins for value in (each.mapped, each.low, each.high)])
    x, y = horizontal_scale(low, high), vertical_scale(low, high, height=_HEIGHT)
    bars = "".join(f"M{x(each.mapped) * 10:.1f} {y(each.low):.1f}V{y(each.high):.1f}" for each in bins)
    return Plot(
        label=f"Reliability of {result.scorer}: mean human score of items with similar mapped predictions.",
        height=_HEIGHT,
        y_ticks=y.ticks(),
        x_ticks=_inner_ticks(x),
        shapes=[
            Shape(path=line_path([(x(low), y(low)), (x(high), y(high))]), css_class="s c1"),
            Shape(path=bars, css_class="s c0"),
            Shape(path=dots_path((x(each.mapped), y(each.score)) for each in bins), css_class="dots big"),
        ],
    )


def interval_plot_of(table: IntervalTable, values: Sequence[float], scores: Sequence[float]) -> Plot:
    """Human scores over the scorer's values, both 0..100, with the band in which human scores are expected."""
    x, y = horizontal_scale(0, 100), vertical_scale(0, 100, height=_HEIGHT)
    steps = np.linspace(0, 100, _CURVE_POINTS).tolist()
    band = [(x(value), y(interval.high), y(interval.low)) for value in steps for interval in [table.at(value)]]
    return Plot(
        label=f"Human score over the value of {len(scores)} items, and the interval of {table.coverage:.0%} coverage.",
        height=_HEIGHT,
        y_ticks=y.ticks(),
        x_ticks=_inner_ticks(x),
        shapes=[
            Shape(path=area_path(band), css_class="band"),
            Shape(path=line_path([(x(0), y(0)), (x(100), y(100))]), css_class="s c1"),
            Shape(path=dots_path(_sampled(values, scores, x=x, y=y)), css_class="dots"),
        ],
    )


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def _sampled(xs: Sequence[float], ys: Sequence[float], *, x: Scale, y: Scale) -> list[tuple[float, float]]:
    step = -(-len(xs) // _MAX_DOTS)
    return [(x(a), y(b)) for a, b in zip(xs[::step], ys[::step], strict=True)]


def _inner_ticks(x: Scale) -> list[Tick]:
    """Ticks away from the edges, where their labels would stick out."""
    return [tick for tick in x.ticks(count=8) if 2 <= tick.position <= 98]
