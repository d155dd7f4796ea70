"""SVG paths of sparklines and other small charts without axes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

SPARKLINE_POINTS = 30
"""How many outcomes a sparkline shows."""

_Coordinates = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparkline:
    """SVG paths of the line, the area under the line and the marks of unscored segments, and the last point."""

    line: str = ""
    area: str = ""
    gaps: str = ""
    last: _Coordinates | None = None


def draw_sparkline(
    values: Sequence[float | None], *, width: float = 120, height: float = 28, max_points: int = SPARKLINE_POINTS
) -> Sparkline:
    """Draw the last `max_points` scores (0..100), the newest at the right; None breaks the line and is marked below.

    >>> draw_sparkline([50.0, None, 100.0], width=29, height=12).line
    'M27 6M29 1'
    """
    values = values[-max_points:]
    step = width / (max_points - 1)
    xs = [width - (len(values) - 1 - index) * step for index in range(len(values))]
    points = [
        None if value is None else (x, _pixel_y(value / 100, height)) for x, value in zip(xs, values, strict=True)
    ]
    runs = list(_unbroken_runs(points))
    gaps = [x for x, point in zip(xs, points, strict=True) if point is None]
    return Sparkline(
        line="".join(_line_path(run) for run in runs),
        area="".join(f"{_line_path(run)}V{_short(height)}H{_short(run[0][0])}Z" for run in runs),
        gaps="".join(f"M{_short(x)} {_short(height - 3)}v3" for x in gaps),
        last=points[-1] if points else None,
    )


def polyline_path(points: Iterable[tuple[float, float | None]], *, width: float, height: float) -> str:
    """One SVG path through (x, y), each 0..1; y grows upwards and None breaks the line."""
    pixels = (None if y is None else (x * width, _pixel_y(y, height)) for x, y in points)
    return "".join(_line_path(run) for run in _unbroken_runs(pixels))


def _line_path(points: Sequence[_Coordinates]) -> str:
    """
    >>> _line_path([(0, 1), (2.04, 3)])
    'M0 1L2 3'
    """
    return "M" + "L".join(f"{_short(x)} {_short(y)}" for x, y in points)


def _unbroken_runs(points: Iterable[_Coordinates | None]) -> Iterator[list[_Coordinates]]:
    for is_gap, run in groupby(points, key=lambda point: point is None):
        if not is_gap:
            yield [point for point in run if point is not None]


def _pixel_y(share: float, height: float) -> float:
    return 1 + (1 - min(1.0, max(0.0, share))) * (height - 2)


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
