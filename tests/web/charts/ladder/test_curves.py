"""What is drawn of a ladder: series, hulls, axes; better is up."""

import pytest

from tests.core.evaluation.ladder.ladders import make_ladder
from vqmon.core.evaluation.ladder.analysis import analyse_ladder
from vqmon.web.charts.ladder.curves import chart_plot, rate_quality_charts, rate_ticks


def test_sizes_differ_in_colour_and_codecs_in_dash() -> None:
    scorer, psnr, gmsd = rate_quality_charts(analyse_ladder(make_ladder(), tolerance_points=2.0))
    assert [(series.name, series.colour, series.dash) for series in scorer.series] == [
        ("h264 1080p", 0, 0), ("h264 720p", 1, 0), ("h264 480p", 2, 0),
        ("av1 1080p", 0, 1), ("av1 720p", 1, 1), ("av1 480p", 2, 1),
    ]  # fmt: skip
    assert [dash for dash, _ in psnr.hulls] == [0, 1]
    rates = [rate for rate, _ in gmsd.series[0].points]
    assert rates == sorted(rates)


def test_better_is_up_also_where_lower_is_better() -> None:
    for chart in rate_quality_charts(analyse_ladder(make_ladder(), tolerance_points=2.0)):
        path = next(shape.path for shape in chart_plot(chart).shapes if shape.css_class == "s c0 d0")
        heights = [float(point.split()[1]) for point in path.lstrip("M").split("L")]
        assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(80, 3000, [100, 200, 500, 1000, 2000]), (1, 900_000, [1, 10, 100, 1000, 10_000, 100_000]), (30, 31, [])],
)
def test_ticks_are_round_rates(low: float, high: float, ticks: list[float]) -> None:
    assert rate_ticks(low, high) == ticks
