"""The tables of detection and tuning as cells: numbers, units, and a dash where nothing is known."""

from dataclasses import replace

import pytest

from pipelines.commands.tune import TunedRule
from pipelines.console import alerts
from pipelines.console.alerts import detection_table, tuning_tables
from vqmon.core.alerts.backtest.incidents import DetectionReport
from vqmon.core.alerts.backtest.tuning import DropVisibility, MeasuredSeries, TuningReport
from vqmon.core.alerts.conditions.chart import ChartParameters
from vqmon.core.alerts.conditions.regression import Regression
from vqmon.core.alerts.regression.control_chart import VisibleDrop
from vqmon.settings.rules_file import parse_rules
from vqmon.terminal import Table

REPORT = DetectionReport(
    alert_count=7,
    false_count=2,
    stream_days=4.0,
    incident_count=3,
    detected_count=2,
    delays_seconds=(8.4, 61.0),
    flapping_count=1,
)
NOTHING_KNOWN = replace(REPORT, false_count=7, incident_count=0, detected_count=0, delays_seconds=(), flapping_count=0)
SERIES = MeasuredSeries(
    name="news/1080p/lite",
    count=300,
    segment_seconds=4.0,
    seconds=86_400.0,
    level=74.96,
    deviation=1.234,
    visible_drops=(VisibleDrop(7.0, 5.0), VisibleDrop(4.2, 20.0)),
    delays=(None, 5.0),
    alert_count=2,
)
REPORT_OF_RULE = TuningReport(
    parameters=ChartParameters(),
    series=(SERIES,),
    drops=(
        DropVisibility(drop_points=2.5, seen_share=0.0, seconds=None),
        DropVisibility(drop_points=25.0, seen_share=0.75, seconds=16.0),
    ),
)
(RULE,) = parse_rules('[rules.drop]\nkind = "regression"\nseverity = "ticket"\nscorer = "lite"\n')
TUNED = TunedRule(rule=RULE, report=REPORT_OF_RULE)


def rows(table: object) -> list[list[str]]:
    """The cells of a table, row by row."""
    assert isinstance(table, Table)
    return [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]


def test_a_set_of_rules_is_followed_by_its_rules() -> None:
    """The title names what they were compared with."""
    table = detection_table([("old", REPORT, {"low": REPORT, "drop": NOTHING_KNOWN}), ("new", REPORT, {})])
    assert table.title == "4.00 stream-days, 3 known incidents"
    assert [row[0] for row in rows(table)] == ["[bold]old[/bold]", "  low", "  drop", "[bold]new[/bold]"]


def test_detection_is_counted_out_of_the_known_incidents() -> None:
    (cells,) = rows(detection_table([("old", REPORT, {})]))
    assert cells[1:] == ["7", "2", "0.500", "2 of 3", "61 s", "61 s", "1"]


def test_without_known_incidents_nothing_is_called_false() -> None:
    """Nor detected, late or flapping."""
    (cells,) = rows(detection_table([("old", NOTHING_KNOWN, {})]))
    assert cells[1:] == ["7", "–", "1.750", "–", "–", "–", "–"]


def test_a_few_seconds_have_no_rate_per_day() -> None:
    """One alert in a clip of 14 seconds would be 6,171 a day."""
    (cells,) = rows(detection_table([("old", replace(REPORT, stream_days=14 / 86_400), {})]))
    assert cells[1:4] == ["7", "2", "–"]


def test_incidents_that_were_all_missed_have_no_delay() -> None:
    report = replace(REPORT, detected_count=0, delays_seconds=())
    (cells,) = rows(detection_table([("old", report, {})]))
    assert cells[4:7] == ["0 of 3", "–", "–"]


def test_brackets_of_names_are_no_markup() -> None:
    """A rule name could otherwise hide text."""
    _, row = rows(detection_table([("old", REPORT, {"[red]low": REPORT})]))
    assert row[0] == r"  \[red]low"


def test_the_smallest_drop_of_each_series_is_shown() -> None:
    series = next(tuning_tables(TUNED))
    assert isinstance(series, Table)
    assert series.title == "rule drop: 1 series"
    assert rows(series) == [["news/1080p/lite", "300", "75.0", "1.23", "4.2", "80 s", "2"]]


def test_the_blindest_series_come_first_and_the_rest_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The title counts all of them; one without limits sees nothing."""
    drops = {"a": (VisibleDrop(2.0, 9.0),), "b": (), "c": (VisibleDrop(3.0, 9.0),)}
    series = tuple(replace(SERIES, name=name, visible_drops=visible) for name, visible in drops.items())
    monkeypatch.setattr(alerts, "_MAX_ROWS", 2)
    report = replace(REPORT_OF_RULE, series=series)
    table, _, sentence, _ = tuning_tables(replace(TUNED, report=report))
    assert isinstance(table, Table)
    assert table.title == "rule drop: 3 series"
    assert [row[0] for row in rows(table)] == ["b", "c"]
    assert "1 series have no limits yet: these need 3 hours of content." in str(sentence)


def test_drops_have_the_share_of_the_series_that_show_them() -> None:
    """What no series shows has a dash."""
    _, drops, *_ = tuning_tables(TUNED)
    assert rows(drops) == [["0.1", "2.5", "0%", "–"], ["1.0", "25", "75%", "16 s"]]


def test_the_settings_can_be_pasted_into_the_rules_file() -> None:
    """They are read back as they were."""
    *_, settings = tuning_tables(TUNED)
    text = str(settings).replace("\\[", "[") + '\nkind = "regression"\nscorer = "lite"\nseverity = "ticket"\n'
    (rule,) = parse_rules(text)
    assert isinstance(rule.condition, Regression)
    assert rule.condition.parameters == ChartParameters()


def test_the_rate_of_alerts_is_compared_with_the_one_that_is_accepted() -> None:
    *_, sentence, _ = tuning_tables(TUNED)
    assert "open 2.000 alerts per stream-day on the 1.0 stored stream-days" in str(sentence)
    assert "one false alarm in 60 is accepted." in str(sentence)
