"""Tables for the terminal: how well alert rules did on replay, and the drops that they see."""

from collections.abc import Iterator, Mapping, Sequence

from pipelines.commands.tune import TunedRule
from vqmon.core.alerts.backtest.incidents import DetectionReport
from vqmon.core.alerts.backtest.tuning import POINTS_PER_MOS, MeasuredSeries, TuningReport
from vqmon.plurals import plural
from vqmon.terminal import Table, escape

_MAX_ROWS = 20

_MIN_RATE_STREAM_DAYS = 1 / 24


def detection_table(rows: Sequence[tuple[str, DetectionReport, Mapping[str, DetectionReport]]]) -> Table:
    """A row per set of rules (name, report, reports by rule), followed by a row for each of its rules."""
    stream_days, incident_count = rows[0][1].stream_days, rows[0][1].incident_count
    title = f"{stream_days:.2f} stream-days, {plural(incident_count, 'known incident')}"
    table = Table(title=title)
    table.add_column("rules", folds=True)
    for name in ("alerts", "false", "per stream-day", "detected", "delay, median", "delay, p95", "flapping"):
        table.add_column(name, justify="right")
    for rule_set, report, by_rule in rows:
        table.add_row(f"[bold]{rule_set}[/bold]", *_report_cells(report))
        for rule, rule_report in by_rule.items():
            table.add_row(f"  {escape(rule)}", *_report_cells(rule_report))
    return table


def _report_cells(report: DetectionReport) -> Iterator[str]:
    # Without known incidents it is unknown which alerts are false.
    has_incidents = report.incident_count > 0
    yield str(report.alert_count)
    yield str(report.false_count) if has_incidents else "–"
    # a rate of minutes says nothing about days
    yield f"{report.false_per_stream_day:.3f}" if report.stream_days >= _MIN_RATE_STREAM_DAYS else "–"
    yield f"{report.detected_count} of {report.incident_count}" if has_incidents else "–"
    yield _seconds(report.delay_quantile(0.5))
    yield _seconds(report.delay_quantile(0.95))
    yield str(report.flapping_count) if has_incidents else "–"


def tuning_tables(tuned: TunedRule) -> Iterator[str | Table]:
    """The series with the drops that they show, how many see which drop, the alerts, the rule."""
    report = tuned.report
    series = Table(title=f"rule {escape(tuned.rule.name)}: {len(report.series)} series")
    series.add_column("series", folds=True)
    for name in ("segments", "usual", "deviation", "smallest drop", "seen within", "alerts"):
        series.add_column(name, justify="right")
    for one in sorted(report.series, key=lambda one: -_smallest_drop(one))[:_MAX_ROWS]:
        smallest = one.visible_drops[-1] if one.visible_drops else None
        series.add_row(
            escape(one.name),
            str(one.count),
            f"{one.level:.1f}",
            f"{one.deviation:.2f}",
            f"{smallest.points:.1f}" if smallest else "–",
            _seconds(smallest.value_count * one.segment_seconds if smallest else None),
            str(one.alert_count),
        )
    yield series
    drops = Table(title="lasting drops: which share of the series shows them, and how soon")
    for name in ("drop, MOS", "points", "series", "within, median"):
        drops.add_column(name, justify="right")
    for drop in report.drops:
        drops.add_row(
            f"{drop.drop_points / POINTS_PER_MOS:.1f}",
            f"{drop.drop_points:g}",
            f"{drop.seen_share:.0%}",
            _seconds(drop.seconds),
        )
    yield drops
    yield _rate_sentence(report)
    parameters = report.parameters
    yield (
        f"{escape(f'[rules.{tuned.rule.name}]')}\nfalse_alarm_days = {parameters.false_alarm_days:g}\n"
        f"delta_min = {parameters.delta_min:g}"
    )


def _smallest_drop(series: MeasuredSeries) -> float:
    return series.visible_drops[-1].points if series.visible_drops else 100.0


def _rate_sentence(report: TuningReport) -> str:
    sentence = (
        f"These settings open {report.alerts_per_day:.3f} alerts per stream-day on the {report.stream_days:.1f} "
        f"stored stream-days, real drops included; "
        f"one false alarm in {report.parameters.false_alarm_days:g} is accepted."
    )
    learning = sum(not series.visible_drops for series in report.series)
    if learning:
        hours = 3 * report.parameters.block_seconds / 3600
        sentence += f" {learning} series have no limits yet: these need {hours:g} hours of content."
    return sentence


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} s"
