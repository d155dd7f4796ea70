"""Downsampling, grouping, tables and captions of a stream's outcomes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from vqmon.core.timeline import TimeBucket, TimelinePoint
from vqmon.web.charts.series import (
    bucket_caption,
    chart_caption,
    chart_data,
    downsample_to_worst,
    group_by_rendition,
    reason_label,
    reference_charts,
    references_label,
    scorer_names,
    signal_charts,
    strongest_signal_label,
    table_rows,
)
from vqmon.web.model.time_range import TimeRange

NOW = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
SCORER = "lite@1"


def point(second: float, score: float | None, *, rendition: str = "r", blur: float = 0.0) -> TimelinePoint:
    """A scored segment, or one that was not found."""
    return TimelinePoint(
        event_id=f"{rendition}-{second:g}-{score}",
        stream_id="s",
        rendition=rendition,
        starts_at=NOW + timedelta(seconds=second),
        reason="not_found" if score is None else None,
        scores={} if score is None else {SCORER: score},
        p5={},
        lowest={},
        signals={"blur": blur, "noise": 0.01},
    )


def bucket(index: int, *, scored: int, unscored: int = 0, mean: float | None, lowest: float | None) -> TimeBucket:
    return TimeBucket(
        stream_id="s",
        rendition="r",
        starts_at=NOW + timedelta(minutes=3 * index),
        seconds=180.0,
        scored=scored,
        unscored=unscored,
        mean=mean,
        lowest=lowest,
    )


def time_range(seconds: float) -> TimeRange:
    return TimeRange(preset=None, begins_at=NOW, ends_at=NOW + timedelta(seconds=seconds))


def test_downsampling_keeps_the_worst_point_of_each_run() -> None:
    """Neither a dip nor an unscored segment is lost."""
    points = [point(number, 80.0) for number in range(100)]
    points[41], points[73] = point(41, 5.0), point(73, None)
    sampled = downsample_to_worst(points, SCORER, max_points=10)
    assert len(sampled) == 10
    assert points[41] in sampled
    assert points[73] in sampled


def test_few_points_are_not_downsampled() -> None:
    points = [point(0, 80.0), point(1, 70.0)]
    assert downsample_to_worst(points, SCORER, max_points=2) is points


@pytest.mark.parametrize("outcomes", [(None, 70.0), (70.0, None)])
def test_a_segment_that_was_scored_later_is_one_point(outcomes: tuple[float | None, float | None]) -> None:
    """Of two outcomes of the same start time the scored one remains, in either order."""
    groups = group_by_rendition([point(0, outcomes[0]), point(0, outcomes[1])], ["r"])
    assert [remaining.scores for remaining in groups["r"]] == [{SCORER: 70.0}]


def test_renditions_keep_their_order_and_may_be_empty() -> None:
    groups = group_by_rendition([point(0, 70.0, rendition="b"), point(0, 80.0, rendition="c")], ["a", "b"])
    assert {name: len(group) for name, group in groups.items()} == {"a": 0, "b": 1, "c": 1}


def test_the_table_has_a_cell_per_rendition_and_moment() -> None:
    """The newest moment comes first; a rendition without a segment at that moment has an empty cell."""
    groups = {"a": [point(0, 50.0), point(4, None)], "b": [point(4, 60.0)]}
    newest, oldest = table_rows(groups, SCORER)
    assert newest.at > oldest.at
    assert [cell and (cell.value, cell.reason) for cell in newest.cells] == [(None, "not found"), (60.0, None)]
    assert [cell and cell.value for cell in oldest.cells] == [50.0, None]


def test_the_caption_summarizes_each_rendition() -> None:
    groups = {"a": [point(0, 50.0), point(4, 60.0)], "b": [point(4, None)]}
    expected = "3 segments, scored by lite@1: a from 50 to 60, mean 55. 1 unscored, 0 alerts."
    assert chart_caption(groups, [], SCORER) == expected


def test_the_caption_says_that_points_are_downsampled() -> None:
    groups = {"a": [point(number, 50.0) for number in range(1300)]}
    assert chart_caption(groups, [], SCORER).endswith("Each point of the chart is the worst of 3 segments.")


def test_an_empty_chart_has_a_caption() -> None:
    assert chart_caption({"a": []}, [], SCORER) == "There is no segment in this time. Choose a longer range."


def test_the_caption_of_buckets_weighs_means_by_their_segments() -> None:
    buckets = [
        bucket(0, scored=30, mean=80.0, lowest=70.0),
        bucket(1, scored=10, unscored=2, mean=40.0, lowest=12.0),
        bucket(2, scored=0, unscored=3, mean=None, lowest=None),
    ]
    assert bucket_caption(buckets, [], SCORER) == (
        "45 segments, scored by lite@1: mean 70, lowest 12. 5 unscored, 0 alerts. "
        "Each point of the chart is the lowest score of 3 minutes."
    )


def test_buckets_are_drawn_instead_of_points() -> None:
    buckets = [bucket(0, scored=30, unscored=2, mean=80.0, lowest=70.126)]
    groups = {"r": [point(0, 50.0)]}
    chart = chart_data("s", groups, buckets, [], scorer=SCORER, time_range=time_range(180))
    assert chart["step_seconds"] == 180.0
    assert chart["renditions"] == [
        {"name": "r", "at": [NOW.timestamp()], "value": [70.13], "id": [None], "reason": ["2 unscored"]}
    ]


def test_negligible_signals_are_only_named() -> None:
    """Unscored segments have no signals to show."""
    groups = {"r": [point(0, 50.0, blur=0.4), point(4, None, blur=0.9)]}
    (blur,), negligible = signal_charts(groups, time_range(8))
    assert (blur.name, blur.max, len(blur.paths)) == ("blur", 0.4, 1)
    assert "noise" in negligible.split(", ")
    assert "blur" not in negligible.split(", ")


@pytest.mark.parametrize(
    ("signals", "label"),
    [({}, ""), ({"blur": 0.049}, ""), ({"blur": 0.05, "decode_errors": 0.5}, "decode errors 0.50")],
)
def test_the_strongest_signal_is_named_unless_negligible(signals: dict[str, float], label: str) -> None:
    assert strongest_signal_label(signals) == label


@pytest.mark.parametrize(
    ("reason", "label"),
    [(None, None), ("not_found", "not found"), ("3 unscored", "3 unscored"), ("new_code", "new_code")],
)
def test_only_known_reason_codes_are_spaced(reason: str | None, label: str | None) -> None:
    assert reason_label(reason) == label


def test_scorers_are_in_alphabetical_order() -> None:
    assert scorer_names([point(0, None)]) == []
    assert scorer_names([point(0, 50.0), point(1, 60.0)]) == [SCORER]


def test_each_reference_measure_is_drawn_on_its_own_scale() -> None:
    """From the lowest to the highest value of all renditions; a segment without one leaves a gap."""
    values = {"high": (30.0, None, 50.0), "low": (40.0, 35.0, 45.0)}
    groups = {
        name: [
            replace(point(second, 70.0, rendition=name), references={} if value is None else {"psnr": value})
            for second, value in enumerate(numbers)
        ]
        for name, numbers in values.items()
    }
    (chart,) = reference_charts(groups, TimeRange(preset=None, begins_at=NOW, ends_at=NOW + timedelta(seconds=2)))
    assert (chart.name, chart.low, chart.high, chart.label) == ("psnr", 30.0, 50.0, "psnr over time, from 30 to 50")
    assert chart.paths[0].count("M") == 2
    assert chart.paths[1].count("M") == 1
    assert references_label(groups["high"][0].references) == "psnr 30"
