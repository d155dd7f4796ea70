"""SVG paths of sparklines."""

from vqmon.web.model.sparklines import draw_sparkline, polyline_path


def test_the_newest_score_is_at_the_right() -> None:
    """With fewer scores than points, the left part stays empty."""
    sparkline = draw_sparkline([0.0, 100.0], width=90, height=12, max_points=10)
    assert sparkline.line == "M80 11L90 1"
    assert sparkline.last == (90, 1)


def test_only_the_last_scores_are_drawn() -> None:
    sparkline = draw_sparkline([0.0] * 20 + [50.0, 50.0], width=10, height=12, max_points=2)
    assert sparkline.line == "M0 6L10 6"


def test_an_unscored_segment_interrupts_the_line_and_is_marked() -> None:
    sparkline = draw_sparkline([50.0, None, 50.0], width=20, height=12, max_points=3)
    assert sparkline.line == "M0 6M20 6"
    assert sparkline.gaps == "M10 9v3"
    assert sparkline.area == "M0 6V12H0ZM20 6V12H20Z"


def test_there_is_no_last_point_when_the_newest_segment_is_unscored() -> None:
    assert draw_sparkline([50.0, None]).last is None


def test_without_scores_nothing_is_drawn() -> None:
    sparkline = draw_sparkline([])
    assert (sparkline.line, sparkline.area, sparkline.gaps, sparkline.last) == ("", "", "", None)


def test_scores_outside_0_to_100_stay_within_the_drawing() -> None:
    assert draw_sparkline([-10.0, 130.0], width=10, height=12, max_points=2).line == "M0 11L10 1"


def test_a_polyline_is_interrupted_by_none() -> None:
    assert polyline_path([(0.0, 0.0), (0.5, None), (1.0, 1.0)], width=200, height=46) == "M0 45M200 1"
