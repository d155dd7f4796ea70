"""Numbers become paths of small drawings; no colour, no size in pixels."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

TREND_PLACES = 30
"""How many outcomes a sparkline shows."""

Place = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A sparkline: the line, what is under it, where nothing was scored, and the last point."""

    line: str = ""
    area: str = ""
    gaps: str = ""
    last: Place | None = None


def trend(
    values: Sequence[float | None], *, width: float = 120, height: float = 28, places: int = TREND_PLACES
) -> Trend:
    """Draw scores 0..100, the newest at the right; a None breaks the line and leaves a mark at the bottom.

    >>> trend([50.0, None, 100.0], width=29, height=12).line
    'M27 6M29 1'
    """
    values = values[-places:]
    step = width / (places - 1)
    spots = [
        (index, None if value is None else (width - (len(values) - 1 - index) * step, _y(value / 100, height)))
        for index, value in enumerate(values)
    ]
    runs = list(_runs(spot for _, spot in spots))
    gaps = [width - (len(values) - 1 - index) * step for index, spot in spots if spot is None]
    return Trend(
        line="".join(path(run) for run in runs),
        area="".join(f"{path(run)}V{_short(height)}H{_short(run[0][0])}Z" for run in runs),
        gaps="".join(f"M{_short(x)} {_short(height - 3)}v3" for x in gaps),
        last=spots[-1][1] if spots else None,
    )


def polyline(places: Iterable[tuple[float, float | None]], *, width: float, height: float) -> str:
    """Draw (x, y) of 0..1 each as one path; y grows upwards and None breaks the line."""
    spots = (None if y is None else (x * width, _y(y, height)) for x, y in places)
    return "".join(path(run) for run in _runs(spots))


def path(spots: Sequence[Place]) -> str:
    """One unbroken line.

    >>> path([(0, 1), (2.04, 3)])
    'M0 1L2 3'
    """
    return "M" + "L".join(f"{_short(x)} {_short(y)}" for x, y in spots)


def _runs(spots: Iterable[Place | None]) -> Iterator[list[Place]]:
    for is_gap, run in groupby(spots, key=lambda spot: spot is None):
        if not is_gap:
            yield [spot for spot in run if spot is not None]


def _y(share: float, height: float) -> float:
    return 1 + (1 - min(1.0, max(0.0, share))) * (height - 2)


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
