"""Series of scores of the shapes that streams have: correlated noise, programmes, ad breaks, loops, ceilings, gaps.

Every shape is a function of a generator, a number of segments and a number of series; it gives scores of shape
(segments, series) in points, one column per series, NaN where a segment is missing. Segments are 4 s long. Some
shapes leave 0..100, which no score does: `scores_of` ends there.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

SEGMENT_SECONDS = 4.0
DAY = 21_600
"""Segments of a stream-day."""

_HOUR = 900
_LEVEL = 70.0
_DEVIATION = 3.75
"""Points; 0.15 MOS."""


def _ar1(chance: np.random.Generator, count: int, series: int, phi: float, *, tails: float = 0.0) -> Scores:
    """AR(1) of variance 1; innovations normal, or t with `tails` degrees of freedom."""
    steps = chance.standard_t(tails, (count, series)) if tails else chance.normal(size=(count, series))
    steps *= np.sqrt((1 - phi**2) * ((tails - 2) / tails if tails else 1.0))
    steps[0] = chance.normal(size=series)
    for index in range(1, count):
        steps[index] += phi * steps[index - 1]
    return steps


def _white(chance: np.random.Generator, count: int, series: int) -> Scores:
    return chance.normal(size=(count, series))


def _pieces(
    chance: np.random.Generator, count: int, series: int, *, shortest: int, longest: int, draw: Callable[[int], Scores]
) -> Scores:
    """A constant per piece of content, of uniformly drawn length in segments; `draw` gives so many constants."""
    values = np.empty((count, series))
    for column in range(series):
        lengths = chance.integers(shortest, longest + 1, size=2 * count // (shortest + longest) * 2 + 4)
        values[:, column] = np.repeat(draw(len(lengths)), lengths)[:count]
    return values


def _programmes(chance: np.random.Generator, count: int, series: int) -> Scores:
    """30 to 90 minutes each, new every day, 5 points apart."""
    return _pieces(
        chance, count, series, shortest=_HOUR // 2, longest=_HOUR * 3 // 2, draw=lambda size: chance.normal(0, 5, size)
    )  # fmt: skip


def _scenes(chance: np.random.Generator, count: int, series: int, *, deviation: float = 3.0) -> Scores:
    """12 to 36 s each."""
    return _pieces(
        chance, count, series, shortest=3, longest=9, draw=lambda size: chance.normal(0, deviation, size)
    )  # fmt: skip


def _ads(chance: np.random.Generator, count: int, series: int, *, depth: float = 12.0) -> Scores:
    """A break of two to three minutes every 12 to 18 minutes; spots of 20 s that differ by 4 points."""
    index = np.arange(count)
    values = np.zeros((count, series))
    for column in range(series):
        starts = np.cumsum(chance.integers(180, 270, size=count // 180 + 2))
        for start in starts[starts < count]:
            length = int(chance.integers(30, 46))
            spots = np.repeat(chance.normal(-depth, 4, size=10), 5)[:length]
            values[start : start + length, column] = spots[: count - start]
    return values + 0.0 * index[:, None]


def _daily(chance: np.random.Generator, count: int, series: int, *, amplitude: float = 4.0) -> Scores:
    phase = chance.uniform(0, 2 * np.pi, series)
    return amplitude * np.sin(2 * np.pi * np.arange(count)[:, None] / DAY + phase)


def _sampling_phase(chance: np.random.Generator, count: int, series: int) -> Scores:
    """Which picture of a second is sampled drifts against the groups of pictures: a beat of +-2 points."""
    period = chance.uniform(300, 3000, series)
    return 2.0 * np.sin(2 * np.pi * np.arange(count)[:, None] / period)


def _spikes(chance: np.random.Generator, count: int, series: int) -> Scores:
    return np.where(chance.random((count, series)) < 0.004, -30.0, 0.0)


def _with_gaps(chance: np.random.Generator, values: Scores) -> Scores:
    """Two percent of the segments are missing, and once a day twenty minutes."""
    count, series = values.shape
    values = np.where(chance.random(values.shape) < 0.02, np.nan, values)
    for column in range(series):
        for day in range(0, count, DAY):
            start = day + int(chance.integers(0, DAY - 300))
            values[start : start + 300, column] = np.nan
    return values


def _noise(phi: float, tails: float = 0.0) -> Callable[[np.random.Generator, int, int], Scores]:
    return lambda chance, count, series: _LEVEL + _DEVIATION * _ar1(chance, count, series, phi, tails=tails)


def _slow_content(chance: np.random.Generator, count: int, series: int) -> Scores:
    content = 3.0 * _ar1(chance, count, series, 0.95)
    return _LEVEL + content + 2.0 * _white(chance, count, series)


def _phase(chance: np.random.Generator, count: int, series: int) -> Scores:
    return _LEVEL + 3.0 * _ar1(chance, count, series, 0.9) + _sampling_phase(chance, count, series)


def _programme_days(chance: np.random.Generator, count: int, series: int) -> Scores:
    within = 2.5 * _ar1(chance, count, series, 0.6)
    return _LEVEL + _programmes(chance, count, series) + within


def _programmes_and_scenes(chance: np.random.Generator, count: int, series: int) -> Scores:
    return _LEVEL + _programmes(chance, count, series) + _scenes(chance, count, series) + _white(chance, count, series)


def _ad_breaks(chance: np.random.Generator, count: int, series: int) -> Scores:
    return _LEVEL + _ads(chance, count, series) + 2.5 * _ar1(chance, count, series, 0.6)


def _everything(chance: np.random.Generator, count: int, series: int) -> Scores:
    values = (
        _LEVEL
        + _programmes(chance, count, series)
        + _ads(chance, count, series)
        + _daily(chance, count, series)
        + _sampling_phase(chance, count, series)
        + _spikes(chance, count, series)
        + 2.0 * _ar1(chance, count, series, 0.6)
    )
    return _with_gaps(chance, values)


def loop_content(chance: np.random.Generator, series: int, *, length: int = 375) -> Scores:
    """The scores of one pass of a loop of 25 minutes: scenes, and a slow part."""
    return _LEVEL + _scenes(chance, length, series) + 4.0 * _ar1(chance, length, series, 0.97)


def _loop(chance: np.random.Generator, count: int, series: int) -> Scores:
    content = loop_content(chance, series)
    return content[np.arange(count) % len(content)] + _white(chance, count, series)


def _schedule(chance: np.random.Generator, count: int, series: int) -> Scores:
    """The same day again and again."""
    content = _programmes(chance, DAY, series) + _scenes(chance, DAY, series)
    return _LEVEL + content[np.arange(count) % DAY] + _white(chance, count, series)


def _day_and_night(chance: np.random.Generator, count: int, series: int) -> Scores:
    return _LEVEL + _daily(chance, count, series) + 3.0 * _ar1(chance, count, series, 0.6)


def _spiky(chance: np.random.Generator, count: int, series: int) -> Scores:
    return _LEVEL + 3.0 * _white(chance, count, series) + _spikes(chance, count, series)


def _studio_and_outside(chance: np.random.Generator, count: int, series: int) -> Scores:
    """Two levels 8 points apart, 5 to 40 minutes each."""
    places = _pieces(
        chance, count, series, shortest=75, longest=600, draw=lambda size: -8.0 * (chance.random(size) < 0.3)
    )  # fmt: skip
    return _LEVEL + places + 2.0 * _ar1(chance, count, series, 0.6)


def _drift(chance: np.random.Generator, count: int, series: int) -> Scores:
    """A level that wanders: a random walk of 3 points a day."""
    walk = np.cumsum(chance.normal(0, 3.0 / np.sqrt(DAY), (count, series)), axis=0)
    return _LEVEL + walk + 3.0 * _ar1(chance, count, series, 0.3)


def _ceiling(chance: np.random.Generator, count: int, series: int) -> Scores:
    """A scorer at its upper end: most values are 100, MAD 0."""
    return np.minimum(100.0, 103.0 + 3.0 * _ar1(chance, count, series, 0.8))


def _two_levels(chance: np.random.Generator, count: int, series: int) -> Scores:
    """A quantised score: 98 or 100, in stretches."""
    return np.where(_ar1(chance, count, series, 0.9) < -1.0, 92.0, 100.0)


def _coarse(chance: np.random.Generator, count: int, series: int) -> Scores:
    """Rounded to 5 points, with the level near the middle of two."""
    return 5.0 * np.round((72.0 + 2.0 * _ar1(chance, count, series, 0.9)) / 5.0)


SHAPES: Mapping[str, Callable[[np.random.Generator, int, int], Scores]] = {
    "white, normal": _noise(0.0),
    "white, t4": _noise(0.0, 4.0),
    "AR(.6)": _noise(0.6),
    "AR(.8), t4": _noise(0.8, 4.0),
    "slow content AR(.95) + white": _slow_content,
    "AR(.9) + sampling phase": _phase,
    "programmes": _programme_days,
    "programmes, scenes": _programmes_and_scenes,
    "ad breaks": _ad_breaks,
    "programmes, ads, day, phase, spikes, gaps": _everything,
    "loop of 25 min": _loop,
    "schedule": _schedule,
    "day and night": _day_and_night,
    "spikes": _spiky,
    "studio and outside": _studio_and_outside,
    "drift": _drift,
    "ceiling": _ceiling,
    "two levels": _two_levels,
    "steps of 5 points": _coarse,
}
"""Name -> shape; the last three are those of a score at its end or quantised."""


def scores_of(name: str, chance: np.random.Generator, count: int, series: int) -> Scores:
    """Scores of a shape of `SHAPES`, (segments, series), from 0 to 100."""
    return np.clip(SHAPES[name](chance, count, series), 0.0, 100.0)
