"""Numbers over time, differences and distributions as drawings whose texts stay crisp at any width.

Across, places are percent of the width; down, they are pixels. What is stretched (lines, areas) is drawn 1000 wide.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

WIDE = 1000.0
HEIGHT = 240.0
ROOM = 8.0
"""Pixels above and below what is drawn, so that marks at the edge are whole."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_STEPS_SECONDS = (
    *(1, 2, 5, 10, 15, 30),
    *(_MINUTE * count for count in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * count for count in (1, 2, 3, 6, 12)),
    *(_DAY * count for count in (1, 2, 7, 14, 30, 90)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A label at a place of an axis."""

    place: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A line or an area, as an SVG path on 1000 x height; `look` is a class of the style sheet."""

    path: str
    look: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A level across the whole drawing, or a moment from top to bottom (then `x` percent is given)."""

    look: str
    y: float | None = None
    x: float | None = None
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point that leads somewhere; the title is what a reader hears."""

    x: float
    y: float
    look: str
    title: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One drawing with its axes and the sentence that says the same."""

    label: str
    height: float
    y_ticks: Sequence[Tick]
    x_ticks: Sequence[Tick]
    shapes: Sequence[Shape] = ()
    rules: Sequence[Rule] = ()
    marks: Sequence[Mark] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Where numbers of `low`..`high` stand on an axis from `begin` to `end`."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        """The place, kept within the axis.

        >>> Scale(low=0, high=10, begin=0, end=100)(2.5)
        25.0
        """
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.begin + min(1.0, max(0.0, share)) * (self.end - self.begin), 2)

    def ticks(self, *, count: int = 5) -> list[Tick]:
        return [Tick(place=self(value), label=short(value)) for value in nice(self.low, self.high, count=count)]


def down(low: float, high: float, *, height: float = HEIGHT) -> Scale:
    """An upright axis: high values on top."""
    return Scale(low=low, high=high, begin=height - ROOM, end=ROOM)


def across(low: float, high: float) -> Scale:
    """A level axis in percent."""
    return Scale(low=low, high=high, begin=0.0, end=100.0)


def around(values: Iterable[float], *, least: float = 1.0) -> tuple[float, float]:
    """An even range that holds all the values and 0, at least `least` to each side, with a little air.

    >>> around([2.0, 9.0])
    (-1.0, 9.9)
    """
    values = list(values)
    return min(-least, 1.1 * min(values, default=0.0)), max(least, 1.1 * max(values, default=0.0))


def nice(low: float, high: float, *, count: int = 5) -> list[float]:
    """Round numbers within a range.

    >>> nice(-1.2, 9.9)
    [0.0, 2.5, 5.0, 7.5]
    """
    rough = (high - low) / max(count, 1) or 1.0
    size = 10 ** math.floor(math.log10(rough))
    step = size * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * size >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) + 0.0 for number in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """
    >>> short(20.0), short(-0.5), short(0.0)
    ('20', '−0.5', '0')
    """
    return f"{value:g}".replace("-", "−")


def signed(value: float) -> str:
    """
    >>> signed(1.234), signed(-0.5), signed(0.001)
    ('+1.23', '−0.50', '0.00')
    """
    text = f"{abs(value):.2f}"
    return text if text == "0.00" else ("+" if value > 0 else "−") + text


def time_ticks(begins_at: datetime, ends_at: datetime, *, count: int = 6) -> list[Tick]:
    """Round moments of a stretch of time: clock within a day or two, else days."""
    seconds = max(1.0, (ends_at - begins_at).total_seconds())
    step = next((step for step in _STEPS_SECONDS if seconds / step <= count), _STEPS_SECONDS[-1])
    scale = across(begins_at.timestamp(), ends_at.timestamp())
    first = math.ceil(begins_at.timestamp() / step)
    moments = [number * step for number in range(first, math.floor(ends_at.timestamp() / step) + 1)]
    form = "%d %b" if step >= _DAY else "%H:%M" if step >= 60 else "%H:%M:%S"
    ticks = [Tick(place=scale(at), label=f"{datetime.fromtimestamp(at, UTC):{form}}") for at in moments]
    # Labels are centred on their place: the outermost would stick out.
    return [tick for tick in ticks if 2.0 <= tick.place <= 98.0]


def joined(places: Iterable[tuple[float, float | None]], *, most_apart: float = WIDE) -> str:
    """One path through (percent, pixels); None, or a step of more than `most_apart` percent, breaks it."""
    parts: list[str] = []
    last: float | None = None
    for x, y in places:
        if y is None:
            last = None
            continue
        parts.append(f"{'L' if last is not None and x - last <= most_apart else 'M'}{x * 10:.1f} {y:.1f}")
        last = x
    return "".join(parts)


def ribbon(places: Sequence[tuple[float, float, float]]) -> str:
    """The area between two lines: (percent, upper pixels, lower pixels) from left to right."""
    if not places:
        return ""
    upper = [f"{x * 10:.1f} {top:.1f}" for x, top, _ in places]
    lower = [f"{x * 10:.1f} {bottom:.1f}" for x, _, bottom in reversed(places)]
    return f"M{'L'.join([*upper, *lower])}Z"


def moment_scale(begins_at: datetime, ends_at: datetime) -> Scale:
    """A level axis of time."""
    return across(begins_at.timestamp(), max(ends_at, begins_at + timedelta(seconds=1)).timestamp())
