"""Scales, ticks and paths of SVG charts."""

from datetime import UTC, datetime, timedelta

import pytest

from vqmon.web.charts.svg import (
    area_path,
    format_number,
    format_signed,
    horizontal_scale,
    line_path,
    range_around_zero,
    time_scale,
    time_ticks,
    vertical_scale,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def test_high_values_are_at_the_top_of_a_vertical_scale() -> None:
    """8 pixels remain free at the top and at the bottom."""
    y = vertical_scale(0, 100, height=200)
    assert (y(100), y(50), y(0)) == (8, 100, 192)


@pytest.mark.parametrize(("value", "position"), [(-5, 0), (15, 100)])
def test_values_outside_a_scale_are_put_at_its_ends(value: float, position: float) -> None:
    assert horizontal_scale(0, 10)(value) == position


def test_a_scale_without_extent_maps_to_its_first_position() -> None:
    """No division by zero when all values are equal."""
    assert horizontal_scale(3, 3)(3) == 0


def test_ticks_are_at_round_values() -> None:
    labels = [tick.label for tick in vertical_scale(-12.5, 12.5).ticks()]
    assert labels == ["−10", "−5", "0", "5", "10"]


@pytest.mark.parametrize("values", [[], [0.0], [0.3, -0.2]])
def test_a_range_around_zero_has_a_minimum_extent(values: list[float]) -> None:
    assert range_around_zero(values, min_extent=2.0) == (-2.0, 2.0)


def test_a_range_around_zero_leaves_a_margin() -> None:
    assert range_around_zero([-10.0, -4.0]) == pytest.approx((-11.0, 1.0))


@pytest.mark.parametrize(
    ("length", "labels"),
    [
        (timedelta(seconds=60), ["12:00:10", "12:00:20", "12:00:30", "12:00:40", "12:00:50"]),
        (timedelta(hours=1), ["12:10", "12:20", "12:30", "12:40", "12:50"]),
        (timedelta(days=5), ["21 Nov", "22 Nov", "23 Nov", "24 Nov", "25 Nov"]),
    ],
)
def test_time_ticks_are_at_round_moments_away_from_the_edges(length: timedelta, labels: list[str]) -> None:
    ticks = time_ticks(NOON, NOON + length)
    assert [tick.label for tick in ticks] == labels
    assert all(2 <= tick.position <= 98 for tick in ticks)


def test_a_time_scale_of_one_moment_has_a_second() -> None:
    """A single point is drawn at the left edge."""
    assert time_scale(NOON, NOON)(NOON.timestamp()) == 0


def test_a_line_is_interrupted_by_missing_values_and_long_steps() -> None:
    points = [(0.0, 1.0), (1.0, 1.0), (2.0, None), (3.0, 1.0), (9.0, 1.0)]
    assert line_path(points, max_step=5.0) == "M0.0 1.0L10.0 1.0M30.0 1.0M90.0 1.0"


def test_an_area_without_points_has_no_path() -> None:
    assert area_path([]) == ""


@pytest.mark.parametrize(("value", "text"), [(0.004, "0.00"), (-0.004, "0.00"), (-0.005001, "−0.01"), (12.0, "+12.00")])
def test_signed_numbers_round_to_an_unsigned_zero(value: float, text: str) -> None:
    assert format_signed(value) == text


def test_numbers_have_a_minus_sign_instead_of_a_hyphen() -> None:
    assert format_number(-1.5) == "−1.5"
