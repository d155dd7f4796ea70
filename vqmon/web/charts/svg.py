"""Axes, scales and paths of SVG charts whose text keeps its size at any width.

Horizontal positions are in percent of the width, vertical positions in pixels from the top. Paths (lines and areas) are
stretched to the width of the page: their x runs from 0 to 1000.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_PATH_WIDTH = 1000.0
_DEFAULT_HEIGHT = 240.0
_VERTICAL_PADDING = 8.0
"""Pixels above and below the data, so that lines and points at the edge are drawn whole."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_TICK_STEPS_SECONDS = (
    *(1, 2, 5, 10, 15, 30),
    *(_MINUTE * count for count in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * count for count in (1, 2, 3, 6, 12)),
    *(_DAY * count for count in (1, 2, 7, 14, 30, 90)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A label of an axis, with its position in the unit of that axis."""

    position: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A line or an area: an SVG path 1000 wide, and a class of the style sheet."""

    path: str
    css_class: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceLine:
    """A horizontal line at `y` pixels, or a vertical one at `x` percent."""

    css_class: str
    y: float | None = None
    x: float | None = None
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A chart with its axes; `label` says in words what it shows."""

    label: str
    # in pixels
    height: float
    y_ticks: Sequence[Tick]
    x_ticks: Sequence[Tick]
    shapes: Sequence[Shape] = ()
    reference_lines: Sequence[ReferenceLine] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Maps values from `low` to `high` linearly to positions from `first` to `last`."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        """The position of a value; values outside the scale are put at its ends.

        >>> Scale(low=0, high=10, first=0, last=100)(2.5)
        25.0
        """
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.first + min(1.0, max(0.0, share)) * (self.last - self.first), 2)

    def ticks(self, *, count: int = 5) -> list[Tick]:
        """About `count` ticks at round values."""
        values = _round_values(self.low, self.high, count=count)
        return [Tick(position=self(value), label=format_number(value)) for value in values]


def vertical_scale(low: float, high: float, *, height: float = _DEFAULT_HEIGHT) -> Scale:
    """A scale in pixels; high values are at the top."""
    return Scale(low=low, high=high, first=height - _VERTICAL_PADDING, last=_VERTICAL_PADDING)


def horizontal_scale(low: float, high: float) -> Scale:
    """A scale in percent of the width."""
    return Scale(low=low, high=high, first=0.0, last=100.0)


def time_scale(begins_at: datetime, ends_at: datetime) -> Scale:
    """A horizontal scale whose values are seconds since 1970."""
    return horizontal_scale(begins_at.timestamp(), max(ends_at, begins_at + timedelta(seconds=1)).timestamp())


def range_around_zero(values: Iterable[float], *, min_extent: float = 1.0) -> tuple[float, float]:
    """A range that holds 0 and all values with a margin of a tenth, and at least `min_extent` to each side of 0.

    >>> range_around_zero([2.0, 9.0])
    (-1.0, 9.9)
    """
    values = list(values)
    return min(-min_extent, 1.1 * min(values, default=0.0)), max(min_extent, 1.1 * max(values, default=0.0))


def _round_values(low: float, high: float, *, count: int = 5) -> list[float]:
    """About `count` evenly spaced round numbers within a range.

    >>> _round_values(-1.2, 9.9)
    [0.0, 2.5, 5.0, 7.5]
    """
    min_step = (high - low) / max(count, 1) or 1.0
    power = 10 ** math.floor(math.log10(min_step))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= min_step * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) + 0.0 for index in range(first, last + 1)]


def format_number(value: float) -> str:
    """
    >>> format_number(20.0), format_number(-0.5), format_number(0.0)
    ('20', '−0.5', '0')
    """
    return f"{value:g}".replace("-", "−")


def format_signed(value: float, decimals: int = 2) -> str:
    """
    >>> format_signed(1.234), format_signed(-0.5), format_signed(0.001), format_signed(0.001, decimals=4)
    ('+1.23', '−0.50', '0.00', '+0.0010')
    """
    text = f"{abs(value):.{decimals}f}"
    return text if not float(text) else ("+" if value > 0 else "−") + text


def time_ticks(begins_at: datetime, ends_at: datetime, *, count: int = 6) -> list[Tick]:
    """At most about `count` ticks at round moments: clock times, or days when the range spans many of them."""
    seconds = max(1.0, (ends_at - begins_at).total_seconds())
    step = next((step for step in _TICK_STEPS_SECONDS if seconds / step <= count), _TICK_STEPS_SECONDS[-1])
    scale = horizontal_scale(begins_at.timestamp(), ends_at.timestamp())
    first, last = math.ceil(begins_at.timestamp() / step), math.floor(ends_at.timestamp() / step)
    form = "%d %b" if step >= _DAY else "%H:%M" if step >= 60 else "%H:%M:%S"
    ticks = [
        Tick(position=scale(at), label=f"{datetime.fromtimestamp(at, UTC):{form}}")
        for at in (index * step for index in range(first, last + 1))
    ]
    # Labels are centred on their ticks: at the very edge they would stick out of the chart.
    return [tick for tick in ticks if 2.0 <= tick.position <= 98.0]


def line_path(points: Iterable[tuple[float, float | None]], *, max_step: float = _PATH_WIDTH) -> str:
    """The path through (percent, pixels); None, or a step of more than `max_step` percent, interrupts the line.

    >>> line_path([(0.0, 5.0), (10.0, 6.0), (20.0, None), (30.0, 7.0)])
    'M0.0 5.0L100.0 6.0M300.0 7.0'
    """
    commands: list[str] = []
    previous_x: float | None = None
    for x, y in points:
        if y is None:
            previous_x = None
            continue
        is_joined = previous_x is not None and x - previous_x <= max_step
        commands.append(f"{'L' if is_joined else 'M'}{x * 10:.1f} {y:.1f}")
        previous_x = x
    return "".join(commands)


def dots_path(points: Iterable[tuple[float, float]]) -> str:
    """Dots at (percent, pixels): lines without length, whose round ends keep their shape when the path is stretched.

    >>> dots_path([(0.0, 5.0), (10.0, 6.0)])
    'M0.0 5.0h0M100.0 6.0h0'
    """
    return "".join(f"M{x * 10:.1f} {y:.1f}h0" for x, y in points)


def area_path(points: Sequence[tuple[float, float, float]]) -> str:
    """The area between two lines: (percent, upper pixels, lower pixels) from left to right.

    >>> area_path([(0.0, 1.0, 4.0), (10.0, 2.0, 3.0)])
    'M0.0 1.0L100.0 2.0L100.0 3.0L0.0 4.0Z'
    """
    if not points:
        return ""
    upper = [f"{x * 10:.1f} {top:.1f}" for x, top, _ in points]
    lower = [f"{x * 10:.1f} {bottom:.1f}" for x, _, bottom in reversed(points)]
    return f"M{'L'.join([*upper, *lower])}Z"
