"""The tables of detection and tuning as cells: numbers, units, and a dash where nothing is known."""

from dataclasses import replace

import pytest
from rich.table import Table

from pipelines.commands.tune import TunedRule
from pipelines.console import alerts
from pipelines.console.alerts import detection_table, tuning_tables
from vqmon.core.alerts.backtest.incidents import DetectionReport
from vqmon.core.alerts.backtest.tuning import DetectionDelay, Proposal, SeriesNoise
from vqmon.settings.rules_file import parse_rules

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
NOISE = SeriesNoise(
    name="news/1080p/lite",
    count=300,
    level=74.96,
    deviation=1.234,
    autocorrelation=0.456,
    residual_deviation=1.1,
    clipped_share=0.0123,
)
PROPOSAL = Proposal(
    k=0.5,
    h=11.5,
    theoretical_h=11.5,
    baseline_segments=21_600,
    segment_seconds=4.0,
    wanted_alarms_per_day=0.05,
    alarms_per_day=0.02,
    stream_days=12.34,
    noise=(NOISE,),
)
(RULE,) = parse_rules('[rules.drop]\nkind = "regression"\nseverity = "ticket"\nscorer = "lite"\n')
TUNED = TunedRule(
    rule=RULE,
    proposal=PROPOSAL,
    delays=(
        DetectionDelay(drop_points=2.5, median=30.0, p95=None),
        DetectionDelay(drop_points=25.0, median=1.6, p95=4.0),
    ),
)


def rows(table: object) -> list[list[str]]:
    """The cells of a table, row by row."""
    assert isinstance(table, Table)
    return [list(row) for row in zip(*(map(str, column.cells) for column in table.columns), strict=True)]


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


def test_incidents_that_were_all_missed_have_no_delay() -> None:
    report = replace(REPORT, detected_count=0, delays_seconds=())
    (cells,) = rows(detection_table([("old", report, {})]))
    assert cells[4:7] == ["0 of 3", "–", "–"]


def test_brackets_of_names_are_no_markup() -> None:
    """A rule name could otherwise hide text."""
    _, row = rows(detection_table([("old", REPORT, {"[red]low": REPORT})]))
    assert row[0] == r"  \[red]low"


def test_the_noise_of_each_series_is_shown() -> None:
    series = next(tuning_tables(TUNED))
    assert isinstance(series, Table)
    assert series.title == "rule drop: 1 series"
    assert rows(series) == [["news/1080p/lite", "300", "75.0", "1.23", "0.46", "1.10", "1.2%"]]


def test_the_noisiest_series_come_first_and_the_rest_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The title counts all of them."""
    deviations = {"a": 1.0, "b": 3.0, "c": 2.0}
    noise = tuple(replace(NOISE, name=name, deviation=deviation) for name, deviation in deviations.items())
    monkeypatch.setattr(alerts, "_MAX_ROWS", 2)
    series = next(tuning_tables(replace(TUNED, proposal=replace(PROPOSAL, noise=noise))))
    assert isinstance(series, Table)
    assert series.title == "rule drop: 3 series"
    assert [row[0] for row in rows(series)] == ["b", "c"]


def test_delays_are_in_seconds_of_media() -> None:
    """Of segments of 4 s; what is not detected has a dash."""
    _, delays, *_ = tuning_tables(TUNED)
    assert rows(delays) == [["0.1", "2.5", "120 s", "–"], ["1.0", "25", "6 s", "16 s"]]


def test_the_proposed_settings_can_be_pasted_into_the_rules_file() -> None:
    """They are read back as they were proposed."""
    *_, settings = tuning_tables(TUNED)
    text = str(settings).replace("\\[", "[") + '\nkind = "regression"\nscorer = "lite"\nseverity = "ticket"\n'
    (rule,) = parse_rules(text)
    condition = rule.condition
    assert (rule.name, condition.k, condition.h, condition.baseline_segments) == ("drop", 0.5, 11.5, 21_600)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("h", "is_explained"), [(11.5, False), (12.7, True)])
def test_a_decision_interval_above_theory_is_explained(h: float, is_explained: bool) -> None:
    """The rate that was found is compared with the one that was wanted."""
    *_, sentence, _ = tuning_tables(replace(TUNED, proposal=replace(PROPOSAL, h=h)))
    assert isinstance(sentence, str)
    assert "open 0.020 alerts per stream-day on the 12.3 stored stream-days; wanted are 0.05." in sentence
    assert ("Theory alone gives h = 11.5" in sentence) == is_explained
