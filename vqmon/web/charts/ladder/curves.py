"""Rate-quality curves of a ladder: what is drawn, and as SVG. Better is always up; rates are on a logarithmic axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vqmon.core.evaluation.ladder.analysis import LadderAnalysis
from vqmon.core.evaluation.ladder.encodes import Encode, Ladder, Subject
from vqmon.web.charts.svg import Plot, Scale, Shape, Tick, dots_path, horizontal_scale, line_path, vertical_scale

_HEIGHT = 280.0
_COLOURS = 6
_MAX_TICKS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One curve: points (kb/s, value) by rising rate; sizes differ in colour, codecs in dash, each numbered 0..5."""

    name: str
    colour: int
    dash: int
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateQualityChart:
    """The curves of one subject, and the convex hull of each codec as (dash, points)."""

    subject: Subject
    series: Sequence[Series]
    hulls: Sequence[tuple[int, Sequence[tuple[float, float]]]]

    @property
    def rate_range(self) -> tuple[float, float]:
        """(lowest, highest) rate of the axis in kb/s."""
        rates = [rate for series in self.series for rate, _ in series.points]
        return min(rates) / 1.1, max(rates) * 1.1

    @property
    def value_range(self) -> tuple[float, float]:
        """(lowest, highest) value of the axis."""
        values = [value for series in self.series for _, value in series.points]
        margin = 0.05 * (max(values) - min(values)) or 1.0
        return min(values) - margin, max(values) + margin


def rate_quality_charts(analysis: LadderAnalysis) -> list[RateQualityChart]:
    """One chart per subject, scorers first."""
    ladder = analysis.ladder
    return [
        RateQualityChart(
            subject=subject,
            series=ladder_series(ladder, subject),
            hulls=[
                (ladder.codecs.index(hull.codec) % _COLOURS, _points(hull.encodes, subject))
                for hull in analysis.hulls
                if hull.subject == subject.name
            ],
        )
        for subject in ladder.subjects
    ]


def ladder_series(ladder: Ladder, subject: Subject) -> list[Series]:
    """The curves of a subject, in the order of the encodes."""
    sizes = list(dict.fromkeys(encode.lines for encode in ladder.encodes))
    return [
        Series(
            name=f"{codec} {lines}p",
            colour=sizes.index(lines) % _COLOURS,
            dash=ladder.codecs.index(codec) % _COLOURS,
            points=_points(encodes, subject),
        )
        for (codec, lines), encodes in ladder.curves().items()
    ]


def _points(encodes: Sequence[Encode], subject: Subject) -> list[tuple[float, float]]:
    return [(encode.rate_kbps, encode.values[subject.name]) for encode in encodes]


def rate_ticks(low: float, high: float) -> list[float]:
    """Round rates 1, 2, 5, 10 ... within a range, thinned out when there are many.

    >>> rate_ticks(80, 3000)
    [100.0, 200.0, 500.0, 1000.0, 2000.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(factor * 10**power) for power in powers for factor in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside if len(inside) <= _MAX_TICKS else [tick for tick in inside if f"{tick:e}".startswith("1")]


def chart_plot(chart: RateQualityChart) -> Plot:
    """The chart as SVG."""
    low, high = chart.rate_range
    x = horizontal_scale(math.log10(low), math.log10(high))
    y = vertical_scale(*chart.value_range, height=_HEIGHT)
    if not chart.subject.higher_is_better:
        y = Scale(low=y.low, high=y.high, first=y.last, last=y.first)
    shapes = [
        Shape(path=line_path([(x(math.log10(rate)), y(value)) for rate, value in points]), css_class="hull")
        for _, points in chart.hulls
    ]
    for series in chart.series:
        points = [(x(math.log10(rate)), y(value)) for rate, value in series.points]
        shapes.append(Shape(path=line_path(points), css_class=f"s c{series.colour} d{series.dash}"))
        shapes.append(Shape(path=dots_path(points), css_class=f"dots big c{series.colour}"))
    ticks = [Tick(position=x(math.log10(rate)), label=f"{rate:,.10g}") for rate in rate_ticks(low, high)]
    return Plot(
        label=f"{chart.subject.name} over the rate in kb/s, for each codec and size.",
        height=_HEIGHT,
        y_ticks=y.ticks(),
        x_ticks=[tick for tick in ticks if 2 <= tick.position <= 98],
        shapes=shapes,
    )
