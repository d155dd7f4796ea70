"""The verdict of the soak: flat memory passes, growth and lost handles do not."""

from bench.serving.soak import Point, fit_slope, problems_of


def points(growth_mb: float, *, handles: int = 0) -> list[Point]:
    """A daemon that grows by so much per 1,000 segments, with 1 MB of noise, after a warm-up of 80 MB."""
    noise = (0.4, -0.7, 0.9, -0.2, -1.0, 0.6, 0.1, -0.5, 0.8, -0.4)
    return [
        Point(
            segments=5000 * number,
            daemon_mb=300 - 80 / number**2 + 5 * number * growth_mb + noise[number - 1],
            daemon_handles=40 + handles * number,
            decoders_mb=120,
            decoder_handles=20,
        )
        for number in range(1, 11)
    ]


def test_a_warm_up_is_no_growth() -> None:
    assert problems_of(points(0), segments=50_000) == []


def test_growth_beyond_doubt_is_named() -> None:
    """1 MB per 1,000 segments is 50 MB of 300 over the run; the interval holds the truth."""
    grown = points(1.0)
    slope = fit_slope(grown)
    assert slope.low < 1.0 < slope.high
    assert "memory grows by at least" in problems_of(grown, segments=50_000)[0]


def test_lost_handles_are_named() -> None:
    assert problems_of(points(0, handles=1), segments=50_000) == ["the daemon's open handles grew from 43 to 50"]
